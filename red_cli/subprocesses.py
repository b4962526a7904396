"""Child processes: the signals passed on to them, and the import path that finds this package."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[1])

Handler = Callable[[int, FrameType | None], None]


def known_signals(*names: str) -> list[signal.Signals]:
    """Those of the named signals that this system has; Windows lacks SIGHUP and SIGUSR1."""
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


@contextmanager
def handling(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    """Have `handler` called for these signals inside the block. Only the main thread can do that; others do nothing."""
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
    """Have `pass_on` called for these signals inside the block; yields those that came."""
    came: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(number)
        pass_on(number)

    with handling(numbers, handler):
        yield came


def import_path() -> str:
    """The PYTHONPATH with which a child process imports this package rather than an installed one."""
    path = os.environ.get("PYTHONPATH")
    return _PACKAGE_PARENT + (os.pathsep + path if path else "")
