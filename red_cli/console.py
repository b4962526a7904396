"""All output to a terminal: results on standard output; progress, notes and errors on standard error."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from red_cli.errors import Interrupted, RedError
from red_cli.escape import json_text, terminal_line, terminal_text
from red_cli.formatting import aligned, duration, speed_text, stamped, wrapped
from red_cli.plan_tables import plan_rows
from red_cli.progress_lines import Pace, evaluation_fields, sample_lines, step_fields, wrapped_fields

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from red_cli.plan.plan import PlanSummary
    from red_cli.train.events import Evaluation, Step

_SLOW = 10.0  # seconds; a step that took longer gets a line if there is no terminal
_NARROW = 100  # columns below which a live line omits figures
_PLAIN_WIDTH = 200  # characters of a line with a text of the data if there is no terminal
_LABEL_WIDTH = 14
_NARROWEST = 24  # columns of values below which they continue under the label
_ERROR = "error:"


def print_json(value: Any) -> None:
    """Print `value` as JSON on standard output."""
    print(json_text(json.dumps(value, indent=2, ensure_ascii=False)))


def print_error(error: RedError) -> None:
    """Print an error and its hint on standard error."""
    console = _console(stderr=True)
    if isinstance(error, Interrupted):
        _print(console, error.message)
        return
    message = _fitted(console, f"{_ERROR} {terminal_text(error.message)}")
    console.print(_ERROR, style="bold red", end="")
    _print(console, message.removeprefix(_ERROR))
    if error.hint:
        _print(console, _fitted(console, terminal_text(error.hint)))


def print_lines(rows: Iterable[tuple[str, str]], stderr: bool = False) -> None:
    """Print rows of label and value. Long values are not cut; on a terminal they are wrapped at spaces."""
    console = _console(stderr)
    rows = [(terminal_line(label), terminal_line(value)) for label, value in rows]
    width = max([_LABEL_WIDTH, *(len(label) + 2 for label, _ in rows)])
    for label, value in rows:
        row = f"{label:<{width}}"
        fitted = _fitted(console, row + value, width if console.width - width >= _NARROWEST else 0)
        _print(console, row, style="bold", end="")
        _print(console, fitted.removeprefix(row))


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first row is the heading. The first column is aligned left and the others right."""
    console = _console(stderr=False)
    for number, line in enumerate(aligned([[terminal_line(cell) for cell in cells] for cells in rows])):
        _print(console, line, style="bold" if number == 0 else None)


def print_parts(tables: Iterable[Sequence[Sequence[str]]], rows: Sequence[tuple[str, str]]) -> None:
    """Print tables, then rows of label and value, each after an empty line."""
    for table in tables:
        print_text()
        print_columns(table)
    if rows:
        print_text()
        print_lines(rows)


def print_text(text: str = "", stderr: bool = False) -> None:
    """Print a text as it is; a note, on standard error, is wrapped at spaces on a terminal."""
    console = _console(stderr)
    _print(console, _fitted(console, terminal_text(text)) if stderr else terminal_text(text))


def print_heading(text: str) -> None:
    """Print a heading."""
    _print(_console(stderr=False), terminal_line(text), style="bold")


def print_piece(text: str) -> None:
    """Print a piece of a streamed text without a newline."""
    print(terminal_text(text), end="", flush=True)


def copy_to_stdout(file: IO[bytes]) -> None:
    """Copy the bytes of a file to standard output."""
    sys.stdout.flush()
    shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def is_typed() -> bool:
    """Whether standard input is a terminal."""
    return sys.stdin.isatty()


def ask() -> str | None:
    """Read a line of standard input, with a prompt on a terminal; None at the end of the input."""
    if not is_typed():
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() then supports editing and history
    try:
        return input("> ")
    except EOFError:
        print()
        return None


def confirm(question: str) -> bool:
    """Ask a question on a terminal; Enter means yes, and the end of the input no."""
    try:
        return input(f"{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        print()
        return False


def width() -> int:
    """The width of standard output in columns."""
    return _console(stderr=False).width


def next_commands(*commands: str) -> None:
    """Print commands that a user may want to run next, if there are any."""
    if not commands:
        return
    console = _console(stderr=False)
    console.print("\n[bold]Next[/]")
    for command in commands:
        _print(console, f"  {terminal_line(command)}")


def silence_libraries() -> None:
    """Hide warnings and progress bars of other libraries, unless RED_DEBUG is set.

    Call this before importing them, because some warn while they load.
    """
    if os.environ.get("RED_DEBUG"):
        return
    import logging

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # such failures are also raised
    warnings.filterwarnings("ignore")
    loud = ("datasets", "huggingface_hub", "accelerate", "torch", "bitsandbytes", "DeepSpeed", "matplotlib", "lm_eval")
    for name in loud:
        logging.getLogger(name).setLevel(logging.ERROR)

    import datasets
    import torch
    import transformers

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed reports on standard output that it found none
    transformers.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its import resets the level
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def print_dimmed(lines: Iterable[tuple[str, bool]]) -> None:
    """Print lines, each dimmed or not."""
    console = _console(stderr=False)
    for text, dimmed in lines:
        _print(console, terminal_line(text), style="dim" if dimmed else None)


def _console(stderr: bool) -> Console:
    """A rich console on standard output or standard error."""
    from rich.console import Console

    return Console(stderr=stderr)


def _fitted(console: Console, text: str, indent: int = 0) -> str:
    """Text broken at spaces to fit a terminal; unchanged elsewhere, so that programs read whole lines."""
    return wrapped(text, console.width, indent) if console.is_terminal else text


def _print(console: Console, text: str, style: str | None = None, end: str = "\n") -> None:
    """Print escaped text without wrapping it or interpreting it as markup."""
    console.print(text, style=style, end=end, markup=False, highlight=False, soft_wrap=True)


class Terminal:
    """Shows progress: a single live line on a terminal, plain lines after the time of day elsewhere.

    Evaluations and notes are lines that stay, above the live one.
    """

    def __init__(self, json_output: bool = False) -> None:
        self.answers_on_stderr = json_output
        self.console = _console(stderr=True)
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
        """Print a line that stays on standard error."""
        text = terminal_text(text)
        _print(_console(stderr=True), text if self.live else stamped(text), style=style)
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
        self._show_evaluation("evaluating", done, total, "evaluated", [])

    def decoding(self, done: int, total: int, tokens: int) -> None:
        self._show_evaluation("decoding", done, total, "decoded", [tokens])

    def _show_evaluation(self, what: str, done: int, total: int, finished: str, tokens: list[int]) -> None:
        """Show the progress of an evaluation: after the step in a training run, else as the bar itself."""
        if what != self._phase or done < self._phase_done:
            if not self._text and self._progress is not None and self._bar is not None:
                self._progress.reset(self._bar, total=total)
            self._phase = what
            self._phase_pace.restart(done, done)
        self._phase_done = done
        seconds = self._phase_pace.seconds
        speed = [speed_text(count / seconds, "tokens") for count in tokens if count and seconds]
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


def tolerate_any_encoding() -> None:
    """Print `?` for characters that the terminal's encoding cannot represent, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def stdout_is_closed() -> None:
    """Discard further output after the reader of a pipe has exited."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
