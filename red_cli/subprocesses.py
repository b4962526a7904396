"""Child processes: run `red` in one, pass signals on, and let it import this package."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


_SIGNALS = known_signals("SIGINT", "SIGTERM", "SIGHUP")


def run_red(arguments: Sequence[str], on_line: Callable[[str], None]) -> tuple[int, bool]:
    """Run `red` with `arguments`; `told` gets each line of its standard error, its standard output is dropped.

    Ctrl-C and a request to end are passed on once each, so that the command can save its work.

    Returns:
        The exit code, and whether this process was asked to stop meanwhile.
    """
    environment = {**os.environ, "PYTHONPATH": import_path()}
    command = [sys.executable, "-m", "red_cli", *arguments]
    # A session of its own, or the terminal's Ctrl-C would reach it twice, and twice means at once.
    process = subprocess.Popen(  # noqa: S603 - this very program
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
        start_new_session=True, text=True, errors="replace",
    )  # fmt: skip
    with process, passing_on(_SIGNALS, lambda number: process.send_signal(signal.SIGINT)) as asked:
        assert process.stderr is not None
        for line in process.stderr:
            on_line(line.rstrip("\n"))
        code = process.wait()
    return code, bool(asked)
