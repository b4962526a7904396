"""Report optimiser steps to the log, the trackers and the listener, once their numbers are read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from red_cli.distributed.device import reads_later
from red_cli.distributed.step_numbers import NotFinite, StepNumbers, StepResult
from red_cli.errors import RunFailed
from red_cli.formatting import rounded_rate
from red_cli.plan.batches import RowIndices
from red_cli.train.checkpoint_folder import list_checkpoints
from red_cli.train.events import Sample, Step
from red_cli.train.interval import Interval
from red_cli.train.session import Session

_SHOWN_ROWS = 8


@dataclass(frozen=True)
class LaunchedStep:
    """An optimiser step that was given to the device, which may still compute it.

    Attributes:
        number: of the step, from 1.
        rows: the row indices of its global batch.
        seconds: until it was given to the device.
    """

    number: int
    rows: RowIndices
    learning_rate: float
    numbers: StepNumbers
    seconds: float


class StepReports:
    """Reads and reports steps in their order.

    Where the host can read a step without a wait for the next one, it reads each when the next one is launched, so that
    the device always has work. Elsewhere it reads each at once.

    Attributes:
        stop: whether a rank was asked to stop, by the steps that are read.
        since_evaluation: the steps that are read since the last evaluation.
    """

    def __init__(self, session: Session) -> None:
        self.stop, self.since_evaluation = False, Interval()
        self._session, self._interval = session, Interval()
        self._unread: deque[LaunchedStep] = deque()
        self._most_unread = int(reads_later(session.processes.device))

    def add(self, step: LaunchedStep) -> None:
        """Take a step, and report those before it, or it as well.

        Raises:
            RunFailed: the loss or the gradient norm of a reported step is not finite. That step was not taken.
        """
        self._unread.append(step)
        self._report_all_but(self._most_unread)

    def read_all(self) -> None:
        """Report every step, with the errors of `add`."""
        self._report_all_but(0)

    def _report_all_but(self, unread: int) -> None:
        while len(self._unread) > unread:
            step = self._unread.popleft()
            started = time.perf_counter()
            result = _read(self._session, step)
            self._report(step, result, step.seconds + time.perf_counter() - started)

    def _report(self, step: LaunchedStep, result: StepResult, seconds: float) -> None:
        """Report a step that took so many seconds: to give it to the device, and to wait for it."""
        session, state, interval = self._session, self._session.state, self._interval
        self.stop |= result.stop
        state.seconds += seconds
        state.rows += len(step.rows)
        tokens = int(session.prepared.encoded["train"].lengths[step.rows].sum())
        for each in (interval, self.since_evaluation):
            each.add(result.loss, len(step.rows), tokens, seconds)
        logs, last = step.number % session.settings.logging_steps == 0, session.schedule.total_steps
        if logs or step.number == last:
            values = {"loss": interval.loss, "learning_rate": step.learning_rate, "gradient_norm": result.gradient_norm}
            speed = rounded_rate(interval.examples_per_second)
            log_values(session, step.number, {**values, "examples_per_second": speed})
        tokens_per_second = interval.tokens_per_second if session.recipe.task.learns_texts else None
        speeds = (interval.examples_per_second, tokens_per_second)
        epoch = step.number / session.schedule.sampler.steps_per_epoch
        session.listener.stepped(Step(step.number, last, epoch, result.loss, step.learning_rate, *speeds))
        if logs:
            self._interval = Interval()


def _read(session: Session, step: LaunchedStep) -> StepResult:
    """The numbers of a step. If they are not finite, its rows are written to the log, and the run ends."""
    try:
        return step.numbers.read()
    except NotFinite as problem:
        rows = [int(row) for row in step.rows]
        session.folder.append_log({"step": step.number, "not_finite": str(problem), "rows": rows})
        shown = ", ".join(map(str, rows[:_SHOWN_ROWS])) + (", …" if len(rows) > _SHOWN_ROWS else "")
        checkpoints = list_checkpoints(session.folder.checkpoints)
        last = f"Last good checkpoint: {checkpoints[-1]}." if checkpoints else "There is no checkpoint yet."
        raise RunFailed(
            "run-not-finite",
            f"step {step.number}: {problem} is not finite (training rows {shown}; all in {session.folder.log})",
            hint=f"{last} Lower train.learning_rate, or check those rows.",
        ) from None


def log_values(session: Session, step: int, values: dict[str, float], samples: Sequence[Sample] = ()) -> None:
    """Write values of a training step to the run's log and to the trackers; samples to the log alone.

    Raises:
        RunFailed: the run's folder was deleted.
    """
    epoch = step / session.schedule.sampler.steps_per_epoch
    session.require_folder()
    answered = {"samples": [asdict(sample) for sample in samples]} if samples else {}
    session.folder.append_log({"step": step, "epoch": round(epoch, 4), **values, **answered})
    session.trackers.log({**values, "epoch": epoch}, step)
