"""The cache on disk: its place, its bound, files in use, and several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from red_cli.tasks.data import disk_cache
from red_cli.tasks.data.disk_cache import FOLDER_VARIABLE, SIZE_VARIABLE, Damaged, DiskCache


def put(cache: DiskCache, key: str, size: int = 100, age: float = 0) -> None:
    cache.write(key, lambda path: path.write_bytes(bytes(size - 4)))  # and a checksum
    os.utime(cache.path(key), (time.time() - age,) * 2)


def keys(cache: DiskCache) -> list[str]:
    return sorted(path.stem for path in cache.folder.glob("*.arrow"))


def test_the_least_recently_used_files_are_removed_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", 300)
    for key, age in (("a", 40), ("b", 30), ("c", 20)):
        put(cache, key, age=age)
    assert keys(cache) == ["a", "b", "c"]
    assert cache.open("a") is not None  # now the latest
    put(cache, "d")
    assert keys(cache) == ["a", "c", "d"]
    put(cache, "e", size=250)
    assert keys(cache) == ["e"]
    with pytest.raises(OSError, match=SIZE_VARIABLE):
        put(cache, "f", size=301)
    assert keys(cache) == ["e"]
    assert not list(cache.folder.glob(".*"))


def test_files_in_use_are_never_removed(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 250)
    put(cache, "used", age=50)
    stored = cache.open("used")
    os.utime(cache.path("used"), (1, 1))
    put(cache, "other", age=20)
    put(cache, "new")
    assert keys(cache) == ["new", "used"]
    assert stored is not None
    assert stored == bytes(96)
    del stored
    os.utime(cache.path("used"), (1, 1))
    put(cache, "newer")
    assert keys(cache) == ["new", "newer"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 250)
    for name, age in ((".a.arrow.1.tmp", 2 * 86400), ("b.lock", 2 * 86400), (".c.arrow.2.tmp", 60)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    put(cache, "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.arrow.2.tmp", "d.arrow"]


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", 250)
    with pytest.raises(ValueError, match="halfway"), cache.writing("a"):
        cache.write("a", lambda path: (path.write_bytes(b"half"), (_ for _ in ()).throw(ValueError("halfway"))))
    assert not list(cache.folder.iterdir())
    assert cache.open("a") is None


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({FOLDER_VARIABLE: "/somewhere", "XDG_CACHE_HOME": "/xdg"}, "/somewhere/rows"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/red/rows"),
        ({"HOME": "/home/someone"}, "/home/someone/.cache/red/rows"),
    ],
)
def test_the_place(variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FOLDER_VARIABLE, SIZE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    cache = DiskCache.of_user()
    assert cache.folder == Path(folder)
    assert 0 < cache.limit <= 20 * 2**30
    monkeypatch.setenv(SIZE_VARIABLE, "0.5")
    assert DiskCache.of_user().limit == 2**29


PROGRAM = """
import sys, time
from pathlib import Path
from red_cli.tasks.data.disk_cache import DiskCache
cache = DiskCache(Path(sys.argv[1]), 10**6)
def write(path):
    time.sleep(1)
    path.write_bytes(b"content")
with cache.writing("a"):
    if (found := cache.open("a")) is None:
        cache.write("a", write)
        print("written")
    else:
        print("read", bytes(found).decode())
"""


def test_one_of_two_processes_writes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = sorted(process.communicate(timeout=120)[0].strip() for process in processes)
    assert printed == ["read content", "written"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]


def test_a_disk_without_locks_is_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path, 250)
    put(cache, "a")
    monkeypatch.setattr(disk_cache.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    assert cache.open("a") is not None


def test_a_damaged_file_is_removed(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10_000)
    put(cache, "a", size=5000)
    whole = cache.path("a").read_bytes()
    for damaged in (b"", whole[:-1], whole[1:], whole + b"x", whole[:77] + b"x" + whole[78:], b"x" * 3):
        cache.path("a").write_bytes(damaged)
        with pytest.raises(Damaged):
            cache.open("a")
        assert cache.open("a") is None
    cache.path("a").write_bytes(whole)
    assert cache.open("a") == bytes(4996)
