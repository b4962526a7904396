"""Stop a run on a signal: the first lets it finish its step and save; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from red_cli.distributed.process_group import Processes
from red_cli.signals import handling, known_signals

# Ctrl-C, and what schedulers send before they end a job (Slurm: SIGTERM by default, SIGUSR1 on request)
_SIGNALS = known_signals("SIGINT", "SIGTERM", "SIGUSR1")


class StopRequested(Exception):
    """The run was asked to stop. Raised between steps only."""


class Stop:
    """Whether any rank of the run was asked to stop."""

    def __init__(self, processes: Processes) -> None:
        self.requested = False
        self.processes = processes

    def check(self) -> None:
        """Raise StopRequested on all ranks if one of them was asked to stop."""
        if any(self.processes.any_rank(self.requested)):
            raise StopRequested

    def is_due(self, reported: bool) -> bool:
        """Whether all ranks stop after the current step. Nothing is sent.

        Args:
            reported: whether the messages of the steps have such a request. A single process sends none.
        """
        return reported if self.processes.count > 1 else self.requested


@contextmanager
def stop_when_asked(stop: Stop) -> Iterator[None]:
    """Set `stop.requested` at the first signal, and stop between steps; a second Ctrl-C raises KeyboardInterrupt."""
    at_once = signal.getsignal(signal.SIGINT)

    def request(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, at_once)

    with handling(_SIGNALS, request):
        yield
