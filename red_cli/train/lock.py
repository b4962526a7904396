"""A lock on a run folder. The system releases it when its process ends, even by SIGKILL."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from red_cli.errors import RunFailed, UserError

LOCK_FILE = ".lock"
_PATIENCE = 5.0  # seconds; a process that was just killed may take a moment to end


class FolderLock:
    """The lock of a run folder, held from `take` until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: FileLock | None = None
        self._inode: int | None = None
        self._made: list[Path] = []  # folders that `take` created, outermost first

    @property
    def path(self) -> Path:
        """The lock file."""
        return self.folder / LOCK_FILE

    def take(self) -> None:
        """Lock the folder, which is created if it does not exist.

        Raises:
            UserError: another process holds the lock.
        """
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path, timeout=_PATIENCE)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                "folder-in-use",
                f"{self.folder} is in use by {_holder(self.path)}",
                hint="Wait until it ends, or choose another folder: output.dir=…",
            ) from None
        self._lock, self._made = lock, missing[::-1]
        with contextlib.suppress(OSError):  # Windows does not allow writing to a locked file
            self.path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        self._inode = _inode(self.path)

    def require_held(self) -> None:
        """Check that the folder is still the one that was locked.

        Raises:
            RunFailed: it was deleted or moved; another run may use its path now.
        """
        if self._lock is not None and _inode(self.path) != self._inode:
            raise RunFailed(
                "folder-vanished",
                f"{self.folder} was deleted or moved while the run was writing to it",
                hint="Rerun the same command to start again.",
            )

    def release(self) -> None:
        """Unlock the folder, and remove it if `take` created it and nothing was written to it."""
        if self._lock is None:
            return
        held = _inode(self.path) == self._inode
        if sys.platform == "win32":  # where an open file cannot be deleted
            self._lock.release()
        if held:
            self.path.unlink(missing_ok=True)
        self._lock.release()
        self._lock = None
        with contextlib.suppress(OSError):  # not empty
            for folder in reversed(self._made):
                folder.rmdir()


def lock_holder(folder: Path) -> str | None:
    """The process that holds the lock of a folder now, as it describes itself; None if no process does.

    Nothing is written, and a process that takes the lock meanwhile waits a moment at most.
    """
    path = folder / LOCK_FILE
    if not path.is_file():
        return None
    if sys.platform == "win32":
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except (Timeout, OSError):
            return _holder(path)
        lock.release()
        return None
    import fcntl

    try:
        with path.open("rb") as file:  # not by FileLock, which empties the file
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path)
    except OSError:  # no permission, or a file system without locks: not known to be held
        return None
    return None


def _inode(path: Path) -> int | None:
    """The inode of the lock's file; None if it cannot be read."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _holder(path: Path) -> str:
    """The process that holds a lock, as recorded in the lock file."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if holder := path.read_text(encoding="utf-8").strip():
            return holder
    return "another process"
