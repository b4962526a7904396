"""Worker detection and reporting: only rank 0 prints, every rank reports failures.

A worker is detected by RANK and WORLD_SIZE, which torchrun, accelerate launch, deepspeed and `red` itself set.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from red_cli.error_codes import Code
from red_cli.errors import RedError, UserError

# Set by `red` for the processes that it starts: their number on all machines, and its own process id
STARTED = "RED_PROCESSES"
LAUNCHER = "RED_LAUNCHER"
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # set by torch's launcher: the file for a failure
_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_LOOK_EVERY = 0.5  # seconds
_REPORT_SECONDS = 15.0  # for another process to report
_shown: TextIO | None = None  # the terminal's standard error, if this process is silenced


def check_environment() -> list[str]:
    """Check this worker's variables: those of a launcher that did not start it are removed.

    Returns:
        The names of the removed variables that had a value.

    Raises:
        UserError: the variables of a launcher are incomplete or not numbers.
    """
    for name in (*_LAUNCHER_VARIABLES, "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name, "x").strip():
            del os.environ[name]
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return [name for name in _LAUNCHER_VARIABLES if os.environ.pop(name, None) is not None]
    if missing := [name for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise UserError(
            "invalid-launch",
            f"RANK and WORLD_SIZE are set, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not",
            hint="Start the processes with torchrun or accelerate launch, or unset RANK and WORLD_SIZE.",
        )
    for name in (*_LAUNCHER_VARIABLES, "MASTER_PORT"):
        value = os.environ.get(name, "0")
        if not (value.isascii() and value.isdecimal()):
            raise UserError(
                "invalid-launch", f"{name} is {value!r}, not a number from 0", hint=f"Correct it, or unset {name}."
            )
    for rank, count in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        if count in os.environ and int(os.environ[rank]) >= int(os.environ[count]):
            raise UserError(
                "invalid-launch",
                f"{rank} is {os.environ[rank]}, and {count} is {os.environ[count]}: ranks count from 0",
                hint=f"Correct them, or unset {rank} and {count}.",
            )
    return []


def is_worker() -> bool:
    """Whether a launcher started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_main() -> bool:
    """Whether this worker process is rank 0 or the only process, which prints and writes."""
    return not is_worker() or os.environ["RANK"].strip() in ("0", "")


def expected_processes() -> int:
    """The number of processes on all machines by the launcher's variables of this worker."""
    return int(os.environ.get(STARTED) or os.environ.get("WORLD_SIZE") or 1) if is_worker() else 1


def processes_here(count: int, machines: int) -> int:
    """How many of a run's processes this machine has: what the launcher of this worker says, else an equal share.

    Args:
        count: of all machines.
        machines: those of the recipe, which another launcher's need not be.
    """
    here = os.environ.get("LOCAL_WORLD_SIZE") if is_worker() else None
    return max(1, count // machines if here is None else min(count, int(here)))


def started_by_red() -> bool:
    """Whether `red` itself started this process, and will show its failure."""
    return is_worker() and LAUNCHER in os.environ


def silence_worker() -> None:
    """Silence every rank but 0, and end this process when its launcher ends."""
    global _shown
    if started_by_red() and os.getppid() == int(os.environ[LAUNCHER]):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if not is_main() and _shown is None and not os.environ.get("RED_DEBUG"):
        sys.stdout.flush()
        sys.stderr.flush()
        _shown = os.fdopen(os.dup(2), "w", errors="replace")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)


def _end_with(launcher: int) -> None:
    """End this worker when its launcher ends; runs in a thread."""
    while os.getppid() == launcher:
        time.sleep(_LOOK_EVERY)
    os._exit(1)


@dataclass(frozen=True)
class Failure:
    """The failure that a worker process reported before it ended.

    Attributes:
        when: seconds since 1970.
        trace: the traceback.
    """

    code: Code
    message: str
    hint: str | None
    exit_code: int
    when: float
    trace: str


def report_failure(error: RedError) -> bool:
    """Report a failure to the launcher in torch's format; returns whether the launcher shows it.

    torch's `record` writes the traceback alone, without a code, a hint and an exit code.
    """
    path = os.environ.get(_ERROR_FILE) if is_worker() else None
    if path is None:
        return False
    failure = Failure(error.code, error.message, error.hint, error.exit_code, time.time(), traceback.format_exc())
    extra = {"py_callstack": failure.trace, "timestamp": str(int(failure.when))}
    content = {"message": {"message": str(error), "extraInfo": extra}, "red": vars(failure)}
    with contextlib.suppress(OSError):
        Path(path).write_text(json.dumps(content), encoding="utf-8")
    return started_by_red()


def wait_for_first_process(error: RedError) -> None:
    """Wait while the first process of this machine reports the same; its launcher then ends this one.

    Before they join, all processes of a machine check the same input.
    """
    torch = sys.modules.get("torch")
    joined = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    if isinstance(error, UserError) and not joined and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(_REPORT_SECONDS)


def show_failure(text: str) -> None:
    """Write to the terminal from a silenced process."""
    if _shown is not None:
        _shown.write(text)
        _shown.flush()


def read_failure(path: str) -> Failure | None:
    """Read the failure that a process reported, or None if it reported nothing."""
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        return Failure(**content["red"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
