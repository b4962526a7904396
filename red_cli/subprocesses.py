"""Child processes: run `red` in one, forward signals, and set its import path."""

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


def import_path() -> str:
    """The PYTHONPATH with which a child process imports this copy of the package."""
    path = os.environ.get("PYTHONPATH")
    return _PACKAGE_PARENT + (os.pathsep + path if path else "")


_SIGNALS = known_signals("SIGINT", "SIGTERM", "SIGHUP")


def run_red(arguments: Sequence[str], on_line: Callable[[str], None]) -> tuple[int, bool]:
    """Run `red` with `arguments`; `on_line` gets each line of its standard error. Its standard output is dropped.

    SIGINT, SIGTERM and SIGHUP are forwarded as SIGINT, so that the command can save its work.

    Returns:
        The exit code, and whether this process received one of these signals.
    """
    environment = {**os.environ, "PYTHONPATH": import_path()}
    command = [sys.executable, "-m", "red_cli", *arguments]
    # A new session: otherwise Ctrl-C reaches the child twice, which stops it immediately.
    process = subprocess.Popen(  # noqa: S603 - this program itself
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
        start_new_session=True, text=True, errors="replace",
    )  # fmt: skip
    with process, passing_on(_SIGNALS, lambda number: process.send_signal(signal.SIGINT)) as asked:
        assert process.stderr is not None
        for line in process.stderr:
            on_line(line.rstrip("\n"))
        code = process.wait()
    return code, bool(asked)
