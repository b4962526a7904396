"""The memory of this machine that its processes may take: in a container, what its control groups leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

# psutil and torch know the machine alone. A process that exceeds the limit of a group is killed.
_GROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")
_FILES = {  # by version: limit, usage, and in memory.stat the pages of files that the system can drop
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def total_memory() -> int:
    """The most bytes that all processes here can ever take together, without swap."""
    limits = [limit for folder, version in _groups() if (limit := _limit(folder, version)) is not None]
    return min([psutil.virtual_memory().total, *limits])


def available_memory() -> int:
    """The bytes that can be taken now without swap."""
    left = []
    for folder, version in _groups():
        _, usage, droppable = _FILES[version]
        limit, used = _limit(folder, version), _number(folder / usage)
        if limit is not None and used is not None:
            left.append(max(0, limit - used + _statistic(folder, droppable)))
    return min([psutil.virtual_memory().available, *left])


def _groups() -> Iterator[tuple[Path, int]]:
    """The folders of the control groups of this process, and of those around them, with their version."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:  # another system than Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root, version = _ROOT, 2
        elif "memory" in controllers.split(","):
            root, version = _ROOT / "memory", 1
        else:
            continue
        own = root / path.lstrip("/")
        yield from ((folder, version) for folder in (own, *own.parents) if folder.is_relative_to(root))


def _limit(folder: Path, version: int) -> int | None:
    """The limit of a group in bytes; None if it has none."""
    return _number(folder / _FILES[version][0])


def _number(file: Path) -> int | None:
    """The number in a file; None for another text, such as `max`, or without the file."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _statistic(folder: Path, name: str) -> int:
    """A number of a group's memory.stat; 0 if it is not there."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
