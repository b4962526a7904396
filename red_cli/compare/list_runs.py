"""List the runs in a folder with their states, those that a comparison has planned but not started among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.compare.planned_runs_file import read_planned
from red_cli.files import subfolders
from red_cli.runs.folder_kind import DEPTH, folder_kind, no_folder_of_kind
from red_cli.train.run_state import RunState, is_started, read_run_state

_NO_RUN = "no run in it"


@dataclass(frozen=True)
class RunList:
    """The runs in a folder, ordered by path, and the folders in which there is none, each with the reason."""

    folder: str
    runs: list[RunState]
    left_out: list[tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "runs": [run.to_json() for run in self.runs],
            "left_out": [{"folder": folder, "reason": reason} for folder, reason in self.left_out],
        }


def list_runs(folder: Path) -> RunList:
    """List the runs in a folder and its subfolders.

    Raises:
        UserError: it is not a folder.
    """
    if not folder.is_dir():
        raise no_folder_of_kind(folder, "Give a folder with runs in it.")
    found = RunList(str(folder), [], [])
    for outcome in _search(folder, DEPTH):
        if isinstance(outcome, RunState):
            found.runs.append(outcome)
        else:
            found.left_out.append(outcome)
    if found.left_out == [(str(folder), _NO_RUN)]:  # the list itself says so
        found.left_out.clear()
    return found


def _search(path: Path, depth: int) -> Iterator[RunState | tuple[str, str]]:
    """The states of the runs that a list finds at `path` and below it, and the outermost folders without any."""
    try:
        kind = folder_kind(path)
        if kind == "run" or (kind is None and is_started(path)):
            yield read_run_state(path)
            return
        if kind is not None:
            yield str(path), f"an {kind}"
            return
        planned = read_planned(path)
        inner = [outcome for child in subfolders(path) for outcome in _search(child, depth - 1)] if depth > 0 else []
    except OSError as error:
        yield str(path), f"cannot be read: {error.strerror or error}"
        return
    started = {Path(outcome.folder).resolve() for outcome in inner if isinstance(outcome, RunState)}
    runs: list[RunState | tuple[str, str]] = [
        RunState(str(run), "never started", reason="planned", next=planned.command)
        for run in planned.folders
        if run.resolve() not in started
    ]
    if not runs and not started:
        yield str(path), _NO_RUN
        return
    yield from [outcome for outcome in inner if isinstance(outcome, RunState) or depth == DEPTH or started]
    yield from runs
