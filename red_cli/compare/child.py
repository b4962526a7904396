"""Run a `red` command in a process of its own: it starts clean, and its peak of memory is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from red_cli.subprocesses import import_path, known_signals, passing_on

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
