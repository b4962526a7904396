"""The command runs."""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from red_cli import console
from red_cli.commands.options import Json
from red_cli.formatting import byte_size, number_of, shortened
from red_cli.recipe.score_format import format_score

if TYPE_CHECKING:
    from red_cli.compare.list_runs import RunList
    from red_cli.train.run_state import RunState

_DEFAULT = Path("runs")
_NARROWEST = 24  # columns of a run's name
_MOST_LEFT_OUT = 5  # that are named on screen
_LONGEST_REASON = 300
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The folder to search; default: runs, or the current one.")
    ] = None,
    json: Json = False,
) -> None:
    """List runs: state, best score, steps, size, age, and the command that resumes each unfinished one."""
    from red_cli.compare.list_runs import list_runs

    found = list_runs(folder or (_DEFAULT if _DEFAULT.is_dir() else Path()))
    if json:
        console.print_json(found.to_json())
        return
    if found.runs:
        console.print_columns(_columns(found))
        console.print_text()
    for line in _lines(found):
        console.print_text(line)


def _columns(found: RunList) -> list[list[str]]:
    """The table of the runs; their names begin at the listed folder and are shortened so that it fits the terminal."""
    cells = [["state", "best", "steps", "size", "age"]]
    cells += [[run.state, _score(run), _steps(run), byte_size(run.bytes), _age(run)] for run in found.runs]
    others = sum(max(map(len, column)) for column in zip(*cells, strict=True)) + 2 * len(cells[0])
    most = max(_NARROWEST, console.width() - others)
    names = ["run", *(shortened(os.path.relpath(run.folder, found.folder), most) for run in found.runs)]
    return [[name, *row] for name, row in zip(names, cells, strict=True)]


def _score(run: RunState) -> str:
    """The metric and the best score of a run."""
    return "" if run.score is None or run.metric is None else f"{run.metric} {format_score(run.metric, run.score)}"


def _steps(run: RunState) -> str:
    """The steps that a run has taken, of those that it takes in all."""
    return f"{run.step:,}" if run.total_steps is None else f"{run.step:,}/{run.total_steps:,}"


def _age(run: RunState) -> str:
    """The time since a run's last change in its largest unit."""
    if run.changed is None:
        return ""
    seconds = max(0, int(time.time() - run.changed))
    name, size = next((unit for unit in _UNITS if seconds >= unit[1]), _UNITS[-1])
    return f"{seconds // size} {name}"


def _lines(found: RunList) -> list[str]:
    """The lines below the table: how many runs there are, what to type for each unfinished one, and what is no run."""
    counts = Counter(run.state for run in found.runs)
    listed = ", ".join(f"{count} {state}" for state, count in counts.items())
    many = number_of(len(found.runs), "run")
    lines = [f"{many} in {found.folder}: {listed}" if listed else f"no runs in {found.folder}"]
    commands: dict[str | None, list[str]] = {}
    for run in found.runs:
        if run.state in ("finished", "running"):
            continue
        reason = f": {run.reason[:_LONGEST_REASON]}" if run.reason else ""
        commands.setdefault(run.next, []).append(f"{run.folder} {run.state}{reason}")
    for command, states in commands.items():
        lines += states
        lines += [f"  {command}"] if command is not None else []
    if counts["finished"]:
        name = shlex.quote(str(Path(found.folder) / "RUN"))
        lines.append(f"To score a finished run: red eval {name}; to use its result: red export {name} --output FOLDER")
    lines += [f"{path}: {reason}" for path, reason in found.left_out[:_MOST_LEFT_OUT]]
    more = len(found.left_out) - _MOST_LEFT_OUT
    return [*lines, f"and {more} more folders without a run"] if more > 0 else lines
