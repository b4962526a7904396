"""Run a `red` command in a process of its own: it starts clean, and its peak of memory is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from red_cli.signals import handling, known_signals

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])
_SIGNALS = known_signals("SIGINT", "SIGTERM", "SIGHUP")


def run_red(arguments: Sequence[str], on_line: Callable[[str], None]) -> tuple[int, bool]:
    """Run `red` with `arguments`; `told` gets each line of its standard error, its standard output is dropped.

    Ctrl-C and a request to end are passed on once each, so that the command can save its work.

    Returns:
        The exit code, and whether this process was asked to stop meanwhile.
    """
    path = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": _PACKAGE_PARENT + (os.pathsep + path if path else "")}
    command = [sys.executable, "-m", "red_cli", *arguments]
    # A session of its own, or the terminal's Ctrl-C would reach it twice, and twice means at once.
    process = subprocess.Popen(  # noqa: S603 - this very program
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
        start_new_session=True, text=True, errors="replace",
    )  # fmt: skip
    with process, _passing_on(process) as asked:
        assert process.stderr is not None
        for line in process.stderr:
            on_line(line.rstrip("\n"))
        code = process.wait()
    return code, bool(asked)


@contextmanager
def _passing_on(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    asked: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        process.send_signal(signal.SIGINT)

    with handling(_SIGNALS, pass_on):
        yield asked
