"""One living run in a folder: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import IO

from red_cli.errors import UserError

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"
_PATIENCE = 5.0  # seconds: a process that was just killed may take a moment to go


class FolderLock:
    """Keeps other runs from a run folder, from `take` until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Lock the folder, which is made if it is not there.

        Raises:
            UserError: a living run holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = (self.folder / LOCK_FILE).open("a+", encoding="utf-8")
        if not _locked(file):
            holder = _holder(file)
            file.close()
            raise _in_use(self.folder, holder)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let others in."""
        if self._file is not None:
            (self.folder / LOCK_FILE).unlink(missing_ok=True)
            self._file.close()
            self._file = None


def require_unlocked(folder: Path) -> None:
    """Refuse a folder that a living run works in.

    Raises:
        UserError: one does.
    """
    path = folder / LOCK_FILE
    if not path.is_file():
        return
    with path.open("a+", encoding="utf-8") as file:
        until = time.monotonic() + _PATIENCE
        while not _locked(file):
            if time.monotonic() > until:
                raise _in_use(folder, _holder(file))
            time.sleep(0.1)


def _locked(file: IO[str]) -> bool:
    """Lock an open file, unless another process has."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "another process"


def _in_use(folder: Path, holder: str) -> UserError:
    return UserError(
        f"{folder} is in use by a run that is under way: {holder}",
        hint="Wait until it ends, or choose another folder: output.dir=…",
    )
