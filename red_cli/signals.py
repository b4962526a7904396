"""Signals of the operating system: handlers inside a block, and signals passed on to child processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import psutil

Handler = Callable[[int, FrameType | None], None]


def send_signal(process: psutil.Process, number: int) -> None:
    """Send a signal of the operating system to a process, which may have ended."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def known_signals(*names: str) -> list[signal.Signals]:
    """The named signals that this system has; Windows has no SIGHUP and SIGUSR1."""
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


@contextmanager
def handling(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    """Install `handler` for these signals inside the block. In other threads than the main one, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def passing_on(numbers: Sequence[signal.Signals], pass_on: Callable[[int], None]) -> Iterator[list[int]]:
    """Call `pass_on` for these signals inside the block; yield the list of received signals."""
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        received.append(number)
        pass_on(number)

    with handling(numbers, handler):
        yield received


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, so that they clean up as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handling(known_signals("SIGTERM", "SIGHUP"), interrupt):
        yield
