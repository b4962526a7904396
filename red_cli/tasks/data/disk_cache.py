"""A cache of files on the user's disk. It is bounded in size, and several processes may use it at once.

A file is written under another name and then renamed, so it is complete or absent, and it ends with a checksum. One
process at a time writes a file, and others wait for it. Nothing in a file is executed. To its callers an OSError means
that there is no cache.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from red_cli.errors import UserError, shown
from red_cli.files import replacing

if sys.platform != "win32":
    import fcntl

SMALLEST = 2**21  # bytes of rows; fewer are read and encoded in about a second
FOLDER_VARIABLE, SIZE_VARIABLE = "RED_CACHE_DIR", "RED_CACHE_GIB"
_MOST_GIB = 20.0
_MOST_OF_THE_DISK = 0.1
_CHECKSUM = 4  # bytes at the end of a file
_STEP = 2**24  # bytes of which a checksum is computed at once
_ABANDONED = 24 * 3600.0  # seconds; a killed process left a temporary file or a lock of this age


class Damaged(Exception):
    """A file of the cache is not what was written."""


@dataclass(frozen=True)
class DiskCache:
    """A folder of files by key.

    Attributes:
        limit: bytes of all files together; the least recently used ones are removed first.
        suffix: the ending of the files.
    """

    folder: Path
    limit: int
    suffix: str = ".arrow"

    @classmethod
    def of_user(cls, kind: str = "rows", suffix: str = ".arrow") -> DiskCache:
        """The cache `kind` in $RED_CACHE_DIR, or in ~/.cache/red; $RED_CACHE_GIB sets its limit, 0 turns it off.

        Raises:
            UserError: $RED_CACHE_GIB is not a number.
            OSError: the disk cannot be read.
        """
        folder = _cache_folder() / kind
        given = os.environ.get(SIZE_VARIABLE)
        if given is None:
            disk = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists()))
            return cls(folder, int(min(_MOST_GIB * 2**30, _MOST_OF_THE_DISK * disk.total)), suffix)
        try:
            size = float(given)
        except ValueError:
            size = math.nan
        if not 0 <= size < math.inf:
            raise UserError(
                "invalid-option", f"{SIZE_VARIABLE} is {shown(given)}, not a size in GiB", hint="0 turns the cache off."
            )
        return cls(folder, int(size * 2**30), suffix)

    def path(self, key: str) -> Path:
        """The file of a key, whether it exists or not."""
        return self.folder / f"{key}{self.suffix}"

    def open(self, key: str) -> memoryview | None:
        """The file of a key, mapped into memory, or None. It is in use, and so kept, as long as the map exists.

        Raises:
            Damaged: the file is not what was written; it is removed.
        """
        path = self.path(key)
        try:
            with path.open("rb") as file:
                _share(file.fileno())
                stored = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            with suppress(OSError):
                os.utime(path)  # used now
        except OSError:
            return None
        except ValueError:  # an empty file
            stored = memoryview(b"")
        content, checksum = stored[:-_CHECKSUM], stored[-_CHECKSUM:]
        if _checksum(content[start : start + _STEP] for start in range(0, len(content), _STEP)) != checksum:
            self.remove(key)
            raise Damaged("its checksum differs")
        return content

    @contextmanager
    def writing(self, key: str) -> Iterator[None]:
        """Keep other processes from writing the file of a key; wait while one of them does.

        Raises:
            OSError: the folder cannot be written to, or its disk has no locks.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(self.folder / f"{key}.lock")
        try:
            lock.acquire()
        except NotImplementedError as error:
            raise OSError(errno.ENOLCK, str(error)) from None
        try:
            yield
        finally:
            with suppress(OSError):  # those who wait for it find the file, or write it again
                Path(lock.lock_file).unlink()
            lock.release()

    def write(self, key: str, write: Callable[[Path], None]) -> int:
        """Let `write` write the file of a key, then remove files until the limit holds; returns the file's size.

        Raises:
            OSError: the disk is full, the folder cannot be written to, or the file is larger than the limit.
        """
        with replacing(self.path(key)) as temporary:
            write(temporary)
            with temporary.open("r+b") as file:
                checksum = _checksum(iter(lambda: file.read(_STEP), b""))
                file.write(checksum)
            size = temporary.stat().st_size
            if size > self.limit:
                raise OSError(errno.EFBIG, f"{size / 2**30:.3g} GiB are more than the limit ({SIZE_VARIABLE})")
        with suppress(OSError):
            self._remove_oldest(self.path(key))
        return size

    def remove(self, key: str) -> None:
        """Remove a file that is damaged."""
        with suppress(OSError):
            self.path(key).unlink()

    def _remove_oldest(self, kept: Path) -> None:
        """Remove the least recently used files while all together exceed the limit, and what killed processes left."""
        files = []
        for path in self.folder.iterdir():
            with suppress(OSError):
                about = path.stat()
                if path.suffix == self.suffix:
                    files.append((about.st_mtime_ns, about.st_size, path))
                elif about.st_mtime < time.time() - _ABANDONED:
                    path.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.limit:
                return
            if path != kept and _remove_unused(path):
                total -= size


def _cache_folder() -> Path:
    """The folder of the cache: from the environment's variable, or red in the user's cache folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser().absolute()
    try:
        users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # no home
        raise OSError(errno.ENOENT, str(error)) from None
    return users / "red"


def _checksum(parts: Iterable[bytes | memoryview]) -> bytes:
    """The CRC-32 checksum that ends each file of the disk cache, computed in steps."""
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found.to_bytes(_CHECKSUM, "little")


def _share(descriptor: int) -> None:
    """Mark an open file as in use; the mark ends with the last copy of its descriptor, and a map holds one.

    Raises:
        BlockingIOError: the file is about to be removed.
    """
    if sys.platform != "win32":  # Windows does not remove a file that is mapped
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a disk without locks; a file that is removed from it stays readable
            return


def _remove_unused(path: Path) -> bool:
    """Remove a file unless a process uses it; returns whether it was removed."""
    try:
        with path.open("r+b") as file:  # network disks lock only for writing what is open for it
            if sys.platform != "win32":
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        if sys.platform == "win32":
            path.unlink()
    except OSError:
        return False
    return True
