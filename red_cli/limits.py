"""Bound the time and memory of user text that runs as a program: regular expressions and chat templates.

Readers bound the length of such text; how long it takes is known only when it runs.
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
_MEGABYTES = 128  # of growth of the process
_AGAIN = 0.05  # seconds between later signals of the timer
_LEAVING = (__file__, contextmanager.__code__.co_filename)  # the files of the functions that leave a block


class LimitReached(Exception):
    """The block took too much time or memory; the message says which."""


class _TimeIsUp(BaseException):
    """Not an Exception, so that `except Exception` inside the block does not catch it."""


@contextmanager
def limited() -> Iterator[None]:
    """Bound the processor time and memory of the block to 0.5 s and 128 MB.

    In the main thread a timer interrupts the block, even inside a regular expression or a multiplication of long
    numbers. Other threads have no timer and share the process's memory: there, the time is checked at each line of
    Python, and memory is not bounded.

    Raises:
        LimitReached: the block exceeds a bound.
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
    """Keep the timer's signal handler installed for many `limited` blocks inside; installing it costs most of one."""
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


# End times of the active blocks in the main thread, in its processor time; None: no handler is installed
_ends: list[float] | None = None


def _set_ends(ends: list[float] | None) -> None:
    """Set the end times of the active limited blocks; None when the timer's handler is removed."""
    global _ends
    _ends = ends


def _handle(number: int, frame: FrameType | None) -> None:
    """Handle the timer's signal: interrupt the block if its processor time is used up.

    What leaves a block is not interrupted: the timer would stay on after it. The next signal follows soon.
    """
    leaving = frame is not None and frame.f_code.co_filename in _LEAVING
    if _ends and time.thread_time() > _ends[-1] and not leaving:
        raise _TimeIsUp


def _has_timer() -> bool:
    """Whether a limit can use a timer: in the main thread, where the system has interval timers."""
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


@contextmanager
def _timer() -> Iterator[None]:
    """Limit the processor time of the block by an interval timer."""
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
            finally:  # runs even if the timer fires again during the previous line
                signal.setitimer(signal.ITIMER_VIRTUAL, *before)


@contextmanager
def _tracing() -> Iterator[None]:
    """Limit the processor time of the block by checking it at each line of Python, where there is no timer."""
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
    """Bound the growth of the process's address space, if the system supports that."""
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
    """The file with the size of this process, kept open since every conversation of a data set reads it."""
    return os.open(f"/proc/{process}/statm", os.O_RDONLY)
