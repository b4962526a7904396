"""Signals that ask a process to end, as far as the system has them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

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
