"""The memory that processes may take where a control group limits it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from red_cli.distributed import machine_memory

GIB = 2**30
# Version -> lines of /proc/self/cgroup, folder of the limited group, its files
VERSIONS = {
    1: ("3:cpu:/other\n5:memory,hugetlb:/job/step\n", "memory/job", ("limit_in_bytes", "usage_in_bytes", "total_")),
    2: ("0::/job/step\n", "job", ("max", "current", "")),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("limit", "used", "droppable", "total", "available"),
    [
        (str(8 * GIB), 5 * GIB, 1 * GIB, 8 * GIB, 4 * GIB),
        (str(8 * GIB), 9 * GIB, 0, 8 * GIB, 0),  # over its limit for a moment
        (str(900 * GIB), 5 * GIB, 0, 64 * GIB, 40 * GIB),  # the machine has less
        ("max", 5 * GIB, 0, 64 * GIB, 40 * GIB),
        (None, 0, 0, 64 * GIB, 40 * GIB),
    ],
)
def test_a_group_around_that_of_the_process_limits_it(
    version: int,
    limit: str | None,
    used: int,
    droppable: int,
    total: int,
    available: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, group, (limit_file, used_file, prefix) = VERSIONS[version]
    folder = tmp_path / group
    (folder / "step").mkdir(parents=True)
    if limit is not None:
        (folder / f"memory.{limit_file}").write_text(f"{limit}\n")
        (folder / f"memory.{used_file}").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{prefix}inactive_file {droppable}\n")
    (tmp_path / "groups").write_text(lines)
    monkeypatch.setattr(machine_memory, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine_memory, "_ROOT", tmp_path)
    machine = SimpleNamespace(total=64 * GIB, available=40 * GIB)
    monkeypatch.setattr(machine_memory.psutil, "virtual_memory", lambda: machine)
    assert machine_memory.total_memory() == total
    assert machine_memory.available_memory() == available


def test_without_control_groups_it_is_the_machine_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory, "_GROUPS", tmp_path / "none")
    assert machine_memory.total_memory() == machine_memory.psutil.virtual_memory().total
