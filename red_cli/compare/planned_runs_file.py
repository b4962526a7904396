"""The file planned.json: the runs that a comparison has planned, so that those that never started are known too."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from red_cli.errors import UserError
from red_cli.files import read_json, write_json

PLAN_FILE = "planned.json"


@dataclass(frozen=True)
class PlannedRuns:
    """The folders of the planned runs, and the command that trains those that are missing."""

    folders: list[Path] = field(default_factory=list)
    command: str | None = None


def write_planned(folder: Path, runs: Sequence[Path], command: Sequence[str]) -> None:
    """Write planned.json: the folders of the runs relative to `folder`, and the command."""
    names = [run.relative_to(folder).as_posix() for run in runs]
    write_json(folder / PLAN_FILE, {"runs": names, "command": shlex.join(command)})


def read_planned(folder: Path) -> PlannedRuns:
    """Read planned.json; without the file, or if it is damaged, no runs are planned."""
    path = folder / PLAN_FILE
    if not path.is_file():
        return PlannedRuns()
    with contextlib.suppress(UserError, OSError, TypeError, KeyError, ValueError):
        content = read_json(path)
        inside = [folder / str(name) for name in content["runs"] if ".." not in Path(str(name)).parts]
        return PlannedRuns([run for run in inside if run.is_relative_to(folder)], str(content["command"]))
    return PlannedRuns()
