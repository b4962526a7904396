"""Ctrl-C and requests to end: the run finishes its step, saves and stops; a second request stops at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from red_cli.distributed.processes import Processes
from red_cli.subprocesses import handling, known_signals

# Ctrl-C; what schedulers send before they take a machine away (Slurm by default the second, on request the third).
_SIGNALS = known_signals("SIGINT", "SIGTERM", "SIGUSR1")


class StopRequested(Exception):
    """The run was asked to stop; raised where it is safe."""


class Stop:
    """Whether the run was asked to stop, in any of its processes."""

    def __init__(self, processes: Processes) -> None:
        self.requested = False
        self.processes = processes

    def check(self) -> None:
        """Raise StopRequested in all processes if one of them was asked to stop."""
        if any(self.processes.any_rank(self.requested)):
            raise StopRequested


@contextmanager
def stop_when_asked(processes: Processes) -> Iterator[Stop]:
    """Turn the first signal inside the block into a request that `Stop.check` raises between steps."""
    stop = Stop(processes)
    at_once = signal.getsignal(signal.SIGINT)

    def request(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, at_once)

    with handling(_SIGNALS, request):
        yield stop
