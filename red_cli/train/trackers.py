"""Experiment trackers, run by Accelerate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from accelerate import Accelerator

from red_cli.errors import UserError, first_line


class Trackers:
    """The trackers of a run. A failure after the start does not end the run: it is noted, and logging stops."""

    def __init__(self, accelerator: Accelerator, names: Sequence[str], note: Callable[[str], None]) -> None:
        self._accelerator = accelerator
        self._names = ", ".join(names)
        self._note = note
        self._works = bool(names)

    def start(self, settings: dict[str, Any]) -> None:
        """Start a tracked run with these settings.

        Raises:
            UserError: a tracker cannot be started, for example because the user is not logged in.
        """
        if not self._works:
            return
        try:
            self._accelerator.init_trackers("red", config=settings)
        except Exception as error:  # each tracker has exceptions of its own
            raise UserError(
                "unavailable",
                f"train.report_to: {self._names} cannot be started: {first_line(error)}",
                hint="Set it up, or disable it: train.report_to=[]",
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
            self._note(f"{self._names} failed and is disabled for the rest of the run: {first_line(error)}")
