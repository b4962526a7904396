"""Experiment trackers, through Accelerate."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.utils import LoggerType

from red_cli.errors import UserError, did_you_mean, first_line, one_line


def require_trackers(names: Sequence[str]) -> None:
    """Check that every tracker is one that Accelerate knows and that its package is installed.

    Raises:
        UserError: it is not.
    """
    known = [member.value for member in LoggerType if member.value != "all"]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) + f"Known: {', '.join(known)}"
            raise UserError(f"train.report_to: no such tracker: {one_line(name)}", hint=hint)
        if importlib.util.find_spec(name) is None:
            extra = "'red-cli[track]'" if name == "tensorboard" else name
            raise UserError(f"train.report_to: {name} is not installed", hint=f"Install it: pip install {extra}")


class Trackers:
    """The trackers of a run. One that fails later does not end the run: a note says so, and nothing more is sent."""

    def __init__(self, accelerator: Accelerator, names: Sequence[str], note: Callable[[str], None]) -> None:
        self._accelerator = accelerator
        self._names = ", ".join(names)
        self._note = note
        self._works = bool(names)

    def start(self, settings: dict[str, Any]) -> None:
        """Begin a tracked run with these settings.

        Raises:
            UserError: a tracker fails, for instance because nobody is logged in.
        """
        if not self._works:
            return
        try:
            self._accelerator.init_trackers("red", config=settings)
        except Exception as error:  # each tracker has exceptions of its own
            raise UserError(
                f"train.report_to: {self._names} cannot be started: {first_line(error)}",
                hint="Set it up, or leave it out: train.report_to=[]",
            ) from error

    def log(self, values: dict[str, float], step: int) -> None:
        """Send the values of a step."""
        self._attempt(lambda: self._accelerator.log(values, step=step))

    def end(self) -> None:
        """Flush and close the trackers."""
        self._attempt(self._accelerator.end_training)

    def _attempt(self, send: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            send()
        except Exception as error:  # each tracker has exceptions of its own
            self._works = False
            self._note(f"{self._names} failed and gets nothing more of this run: {first_line(error)}")
