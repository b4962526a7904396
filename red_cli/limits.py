"""Bounds on what text of a user's may cost that is run as a program: a regular expression, a chat template.

The length of such text is bounded where it is read. How long it takes shows only when it runs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from types import FrameType
from typing import Any

SECONDS = 0.5  # of processor time
_MEGABYTES = 128  # of memory above what the process has
_AGAIN = 0.05  # seconds between looks at the time, once it may be up


class LimitReached(Exception):
    """What ran took too long, or too much memory; the message says which."""


class _TimeIsUp(BaseException):
    """Not an Exception, so that nothing on the way out takes it for a fault of its own."""


@contextmanager
def limited() -> Iterator[None]:
    """Bound the processor time and the memory of what runs inside.

    In the main thread a timer interrupts it, also inside a regular expression or a multiplication of long numbers, and
    the process may grow by so much only. Other threads have no timer of their own, and the memory is everyone's: there,
    time is looked at with each line of Python, and memory is not bounded.

    Raises:
        LimitReached: it takes more than that.
    """
    main = threading.current_thread() is threading.main_thread()
    try:
        memory = _memory() if main else nullcontext()
        watch = _timer() if _has_timer() else _tracing()
        with memory, watch:
            yield
    except _TimeIsUp:
        raise LimitReached(f"takes more than {SECONDS:g} s") from None
    except MemoryError:
        raise LimitReached(f"takes more than {_MEGABYTES} MB of memory") from None


@contextmanager
def limited_often() -> Iterator[None]:
    """Keep the handler of the timer installed, which is most of what one `limited` costs, for many of them inside."""
    if not _has_timer() or _ends is not None:
        yield
        return
    handler = signal.signal(signal.SIGVTALRM, _handle)
    _set_ends([])
    try:
        yield
    finally:
        _set_ends(None)
        signal.signal(signal.SIGVTALRM, handler)


# Ends of the bounded work under way in the main thread, by its processor time; None: no handler is installed
_ends: list[float] | None = None


def _set_ends(ends: list[float] | None) -> None:
    global _ends
    _ends = ends


def _handle(number: int, frame: FrameType | None) -> None:
    if _ends and time.thread_time() > _ends[-1]:
        raise _TimeIsUp


def _has_timer() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


@contextmanager
def _timer() -> Iterator[None]:
    with limited_often():
        ends = _ends
        assert ends is not None
        before = signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, _AGAIN)
        ends.append(time.thread_time() + SECONDS)
        try:
            yield
        finally:
            try:
                ends.pop()
            finally:  # reached even where the timer goes off once more in the line before
                signal.setitimer(signal.ITIMER_VIRTUAL, *before)


@contextmanager
def _tracing() -> Iterator[None]:
    end = time.thread_time() + SECONDS

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if time.thread_time() > end:
            raise _TimeIsUp
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _memory() -> Iterator[None]:
    """Bound the growth of the process's address space, where the system tells and bounds it."""
    try:
        import resource

        size = int(os.pread(_size_file(os.getpid()), 32, 0).split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = size + _MEGABYTES * 2**20
    if soft != resource.RLIM_INFINITY and soft < wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@lru_cache(maxsize=1)
def _size_file(process: int) -> int:
    """The file that tells the size of this process, kept open: every conversation of a data set asks for it."""
    return os.open(f"/proc/{process}/statm", os.O_RDONLY)
