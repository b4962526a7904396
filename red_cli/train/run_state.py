"""The state of a run, read from its folder: finished, running, interrupted, failed, never started or damaged.

Imports nothing heavy, and reads a folder that another process writes to, or that anybody made.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from red_cli.errors import RedError, UserError, first_line
from red_cli.files import read_json
from red_cli.recipe.metrics import UNTUNED, is_better
from red_cli.recipe.yaml_file import read_document
from red_cli.runs.failure_record import read_failure
from red_cli.runs.folder_kind import ENVIRONMENT_FILE, METRICS_FILE, RECIPE_FILE
from red_cli.runs.metrics_file import is_finished
from red_cli.train.checkpoint_folder import list_checkpoints
from red_cli.train.lock import LOCK_FILE, lock_holder

State = Literal["finished", "running", "interrupted", "failed", "never started", "damaged"]
_LOG = "log.jsonl"


@dataclass(frozen=True)
class RunState:
    """What a run's folder says of it.

    Attributes:
        reason: why it failed or is damaged, how it was interrupted, or which process runs it.
        metric, split, score: its result if it is finished, else its best evaluation so far.
        step, total_steps: optimiser steps taken, and those of the whole run; None if unknown.
        resumes_from: the step of the last checkpoint of an unfinished run.
        bytes: the size of the folder.
        changed: the time of the last change of its log, metrics or recipe, in seconds since 1970.
        next: the command that resumes an unfinished run or evaluates a finished one; None: there is none.
    """

    folder: str
    state: State
    reason: str | None = None
    metric: str | None = None
    split: str | None = None
    score: float | None = None
    step: int = 0
    total_steps: int | None = None
    resumes_from: int | None = None
    bytes: int = 0
    changed: float | None = None
    next: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def is_started(path: Path) -> bool:
    """Whether the state of the run in a folder is started or a later one, by its lock file."""
    return (path / LOCK_FILE).is_file()


def read_run_state(path: Path) -> RunState:
    """Read the state of the run in a folder. A folder that cannot be read is "damaged", never an error."""
    try:
        return _read(path)
    except (RedError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = error.message if isinstance(error, RedError) else f"{type(error).__name__}: {error}"
        return RunState(str(path), "damaged", reason=first_line(reason), **_place(path))


def _read(path: Path) -> RunState:
    """Read the state of a run; raises whatever a damaged file makes the readers raise."""
    place = _place(path)
    metrics = read_json(path / METRICS_FILE) if (path / METRICS_FILE).is_file() else {}
    if not isinstance(metrics, dict):
        raise UserError("file-damaged", f"{path / METRICS_FILE} is damaged: it is no mapping")
    if is_finished(metrics):
        return _finished(path, metrics, place)
    holder = lock_holder(path)
    if not (path / RECIPE_FILE).is_file():
        state: State = "never started" if holder is None else "running"
        reason = "ended before it wrote anything" if holder is None else holder
        return RunState(str(path), state, reason=reason, **place)
    step, scores = _logged(path / _LOG)
    checkpoints = list_checkpoints(path / "checkpoints")
    plan = _plan(path)
    metric, split = plan.get("metric"), plan.get("split")
    progress: dict[str, Any] = {
        "metric": metric,
        "split": split,
        "score": _best(metric, [found[f"{split}_{metric}"] for found in scores if f"{split}_{metric}" in found]),
        "step": step,
        "total_steps": plan.get("total_steps"),
        "resumes_from": int(checkpoints[-1].name.rpartition("-")[2]) if checkpoints else None,
        **place,
    }
    if holder is not None:
        return RunState(str(path), "running", reason=holder, **progress)
    resume = _resume_command(path)
    if (failure := read_failure(path)) is not None:
        return RunState(str(path), "failed", reason=failure, next=resume, **progress)
    how = "killed" if (path / LOCK_FILE).is_file() else "stopped"
    return RunState(str(path), "interrupted", reason=how, next=resume, **progress)


def _finished(path: Path, metrics: dict[str, Any], place: dict[str, Any]) -> RunState:
    """The state of a finished run."""
    metric = str(metrics["metric"])
    scoring = metrics.get("scoring")
    split = next(iter(metrics["splits"])) if scoring is None else str(scoring["scored"]["split"])
    return RunState(
        str(path),
        "finished",
        metric=metric,
        split=split,
        score=float(metrics["splits"][split][metric]),
        step=int(metrics["training"]["steps"]),
        total_steps=_plan(path).get("total_steps"),
        next=None if metrics.get("method") == UNTUNED else shlex.join(["red", "eval", str(path)]),
        **place,
    )


def _plan(path: Path) -> dict[str, Any]:
    """The plan's facts in a run's folder, for its state: metric, split and steps; empty in earlier versions."""
    with contextlib.suppress(RedError, OSError):
        content = read_json(path / ENVIRONMENT_FILE)
        if isinstance(content, dict) and isinstance(content.get("plan"), dict):
            plan = content["plan"]
            kinds = {"metric": str, "split": str, "total_steps": int}
            return {key: plan[key] for key, kind in kinds.items() if isinstance(plan.get(key), kind)}
    return {}


def _logged(log: Path) -> tuple[int, list[dict[str, Any]]]:
    """The state of a run by its log: the last step, and the lines of evaluations; a cut line is skipped."""
    step, scores = 0, []
    if log.is_file():
        with log.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                        if "not_finite" not in entry:  # the step that failed
                            step = max(step, entry["step"])
                        if "loss" not in entry:
                            scores.append(entry)
    return step, scores


def _best(metric: str | None, values: list[Any]) -> float | None:
    """The best evaluation in the state of an unfinished run; None if there is none."""
    best = None
    for value in values:
        if metric is not None and isinstance(value, int | float) and is_better(metric, value, best):
            best = float(value)
    return best


def _resume_command(path: Path) -> str:
    """The command, for a run's state, that resumes it; a folder that was moved is named in the command.

    Raises:
        UserError: the recipe is not YAML.
    """
    recipe = read_document(path / RECIPE_FILE).data
    output = recipe.get("output") if isinstance(recipe, dict) else None
    place = output.get("dir") if isinstance(output, dict) else None
    moved = not isinstance(place, str) or Path(place) != path.resolve()
    command = ["red", "train", str(path / RECIPE_FILE), "--resume", *([f"output.dir={path}"] if moved else [])]
    return shlex.join(command)


def _place(path: Path) -> dict[str, Any]:
    """The size of a run's folder, and the time of its last change."""
    size, changed = 0, None
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):  # removed meanwhile
            found = file.lstat()
            size += found.st_size if file.is_file() else 0
    for name in (_LOG, METRICS_FILE, RECIPE_FILE, LOCK_FILE):
        with contextlib.suppress(OSError):
            when = (path / name).stat().st_mtime
            changed = when if changed is None else max(changed, when)
    return {"bytes": size, "changed": changed}
