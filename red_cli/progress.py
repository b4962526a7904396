"""The progress of a command on a terminal: a live line there, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from red_cli.console import console_of, print_lines, print_styled
from red_cli.escape import terminal_line, terminal_text
from red_cli.formatting import duration, speed_text, with_time_of_day
from red_cli.plan_tables import plan_rows
from red_cli.progress_lines import Pace, evaluation_fields, sample_lines, step_fields, wrapped_fields

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from red_cli.plan.plan import PlanSummary
    from red_cli.train.events import Evaluation, Step

_SLOW = 10.0  # seconds; a step that took longer gets a line if there is no terminal
_NARROW = 100  # columns below which a live line omits figures
_PLAIN_WIDTH = 200  # characters of a line with a text of the data if there is no terminal


class Terminal:
    """Shows progress: a single live line on a terminal, plain lines after the time of day elsewhere.

    Evaluations and notes are lines that stay, above the live one.
    """

    def __init__(self, json_output: bool = False) -> None:
        self.answers_on_stderr = json_output
        self.console = console_of(stderr=True)
        self.live = self.console.is_terminal
        self._status: Progress | None = None
        self._slow_step: tuple[str, float] | None = None  # and the time when it started
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._text = ""  # of the last step
        self._phase = ""
        self._phase_done = 0
        self._pace, self._phase_pace = Pace(), Pace()
        self._planned = False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._slow_step = None  # the error is what matters
        self._stop_status()
        self._stop_progress()

    def status(self, what: str) -> None:
        """Show the current activity and its time on a terminal until there is other output."""
        if self._text:  # between the steps of a run
            return
        self._stop_progress()
        step = what.partition(": ")[0]
        if self._slow_step is None or self._slow_step[0] != step:
            self._stop_status()
            self._slow_step = (step, time.monotonic())
        if self.live:
            self._spin(f"{terminal_line(what)} …")

    def _spin(self, text: str) -> None:
        """Show a spinner with a text and the time since it started."""
        if self._status is None:
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            self._status = Progress(*columns, console=self.console, transient=True)
            self._status.start()
            self._status.add_task(text, total=None)
        else:
            self._status.update(self._status.task_ids[0], description=text)

    def _stop_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._slow_step is not None:
            what, started = self._slow_step
            self._slow_step = None
            taken = time.monotonic() - started
            if taken > _SLOW and not self.live:
                self._say(f"{what}: {duration(taken)}")

    def _stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def note(self, text: str) -> None:
        self._stop_status()
        self._say(text)

    def _say(self, text: str, style: str | None = None) -> None:
        """Print a line that stays on standard error, above a live line: its own console alone erases that first."""
        text = terminal_text(text)
        print_styled(self.console, text if self.live else with_time_of_day(text), style=style)
        self._pace.printed()
        self._phase_pace.printed()

    def planned(self, plan: PlanSummary, folder: str) -> None:
        self._stop_status()
        rows = plan_rows(plan, folder)
        print_lines(rows[-1:] if self._planned else rows, stderr=self.answers_on_stderr)
        # There may be another run of the same plan
        self._planned, self._text = True, ""
        self._pace.printed()

    def searching(self, done: int, total: int, rate: float) -> None:
        self._show(done, total, f"searching a learning rate: {rate:.1e}")

    def searched(self, rate: float, edges: Sequence[float | None]) -> None:
        self._stop_progress()
        diverged = ", ".join("nowhere" if edge is None else f"at {edge:.2g}" for edge in edges)
        self._say(f"learning rate {rate:g}: the loss diverged {diverged}")

    def stepped(self, step: Step) -> None:
        fields = step_fields(step)
        if not self._text:
            self._stop_progress()  # of an evaluation before the first step
            # A resumed run prints its first line after as many steps as a new one
            self._pace.restart(step.step - 1, step.step)
        self._phase = ""
        self._text = "  ".join(fields if self.console.width >= _NARROW else fields[:-1])
        self._show(step.step, step.total_steps, self._text)
        if not self.live and self._pace.is_due(step.step, step.total_steps):
            left = self._pace.left(step.step, step.total_steps)
            self._say("  ".join([f"step {step.step}/{step.total_steps}", *fields, left]))

    def evaluating(self, done: int, total: int) -> None:
        self._begin_phase("evaluating", done, total)
        self._show_phase(done, total, "evaluated", [])

    def predicting(self, done: int, total: int) -> None:
        self._begin_phase("predicting", done, total)
        speed = self._phase_pace.per_second(done)
        self._show_phase(done, total, "predicted", [speed_text(speed, "rows")] if speed else [])

    def decoding(self, done: int, total: int, tokens: int) -> None:
        self._begin_phase("decoding", done, total)
        seconds = self._phase_pace.seconds
        self._show_phase(done, total, "decoded", [speed_text(tokens / seconds, "tokens")] if tokens and seconds else [])

    def _begin_phase(self, what: str, done: int, total: int) -> None:
        """Count and time the progress of an evaluation from here on, if it is another one than before."""
        if what != self._phase or done < self._phase_done:
            if not self._text and self._progress is not None and self._bar is not None:
                self._progress.reset(self._bar, total=total)
            self._phase = what
            self._phase_pace.restart(done, done)
        self._phase_done = done

    def _show_phase(self, done: int, total: int, finished: str, speed: list[str]) -> None:
        """Show the progress of an evaluation: after the step in a training run, else as the bar itself."""
        what = self._phase
        if not self._text:
            self._show(done, total, "  ".join([what, *speed]))
        elif self._progress is not None and self._bar is not None:
            of_step = self._text if self.console.width >= _NARROW else self._text.partition("  ")[0]
            text = "  ".join([of_step, f"{what} {done / max(total, 1):.0%}", *speed])
            self._progress.update(self._bar, text=text)
        if not self.live and self._phase_pace.is_due(done, total):
            self._say("  ".join([f"{finished} {done:,}/{total:,}", *speed, self._phase_pace.left(done, total)]))

    def writing(self, done: int, total: int) -> None:
        self._show(done >> 20, total >> 20, "MiB written")

    def evaluated(self, evaluation: Evaluation) -> None:
        width = self.console.width if self.live else _PLAIN_WIDTH
        fields = evaluation_fields(evaluation)
        lines = wrapped_fields(fields, width) if self.live else ["  ".join(fields)]
        for line in lines:
            self._say(line, style="bold" if evaluation.best else None)
        for line in sample_lines(evaluation.samples, width):
            self._say(line)

    def _show(self, done: int, total: int, text: str) -> None:
        self._stop_status()
        if not self.live:
            return
        if self._progress is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (MofNCompleteColumn(), BarColumn(bar_width=None), TextColumn("{task.fields[text]}", markup=False),
                       TimeRemainingColumn(compact=True))  # fmt: skip
            self._progress = Progress(*columns, console=self.console, expand=True, transient=True)
            self._progress.start()
            self._bar = self._progress.add_task("", total=total, text=terminal_line(text))
        assert self._bar is not None
        self._progress.update(self._bar, completed=done, total=total, text=terminal_line(text))
