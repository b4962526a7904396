"""Child processes: run `red` in one, forward signals, and set its import path."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from red_cli.signals import known_signals, passing_on

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[1])


def import_path() -> str:
    """The PYTHONPATH with which a child process imports this copy of the package."""
    path = os.environ.get("PYTHONPATH")
    return _PACKAGE_PARENT + (os.pathsep + path if path else "")


_SIGNALS = known_signals("SIGINT", "SIGTERM", "SIGHUP")


def run_red(arguments: Sequence[str], on_line: Callable[[str], None]) -> tuple[int, bool]:
    """Run `red` with `arguments` as a subprocess, without its output; `on_line` gets the lines of its standard error.

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
