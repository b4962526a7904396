"""Finding and reading run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.recipe.chosen_metrics import headline_metrics
from red_cli.recipe.load import load_recorded_recipe
from red_cli.recipe.metric_names import stored_title
from red_cli.recipe.schema import Recipe
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import RECIPE_FILE, folder_kind, is_adapter, no_folder_of_kind, not_trained, run_folders

_LINES = 2  # of an error message, which may list several faults


@dataclass(frozen=True)
class FinishedRun:
    """A finished run that was found: its folder, its recipe, and the content of its metrics.json."""

    path: Path
    recipe: Recipe
    metrics: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.recipe.train.seed

    @property
    def metric(self) -> str:
        """The metric that selected the best evaluation."""
        return str(self.metrics["metric"])

    def metric_title(self, metric: str | None = None) -> str:
        """A metric in words, as the run knows it, such as "F1 of spam"; default: the selecting metric."""
        return stored_title(self.metrics, metric or self.metric)

    @property
    def result_split(self) -> str:
        """The split whose score is the run's result."""
        return str(self.metrics["scoring"]["scored"]["split"])

    @property
    def selection_split(self) -> str:
        """The split that selected the best evaluation."""
        return str(self.metrics["scoring"]["selection"]["split"])

    def has(self, split: str) -> bool:
        """Whether a metric that summarises the run was computed on `split`."""
        return bool(headline_metrics(self.metric, self.metrics["splits"].get(split, {})))

    def score(self, split: str, metric: str | None = None) -> float:
        """The value of a metric on `split` in the unit of metrics.json; default: the selecting metric."""
        return float(self.metrics["splits"][split][metric or self.metric])

    def chose_best(self, split: str) -> bool:
        """Whether `split` selected the best evaluation, which biases its score upwards."""
        return split == self.selection_split


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not reported, and the reason."""

    path: Path
    reason: str


def read_run(path: Path) -> FinishedRun:
    """Read a finished run that was found.

    Raises:
        UserError: the folder is not a run, the run is not finished, or its recipe or metrics are damaged.
    """
    kind = folder_kind(path)
    if kind == "exported model":
        raise UserError(
            "not-a-run", f"{path} is an exported model, whose edits are in its weights", hint="Give the run itself."
        )
    if kind != "run":
        raise not_trained(path)
    folder, recipe = RunFolder(path), load_recorded_recipe(path / RECIPE_FILE).recipe
    metrics = folder.read_metrics()
    if not folder.finished:
        on_adapter = f"To report on its adapter so far: red report {folder.adapter}"
        raise UserError(
            "run-unfinished",
            f"{path} is not finished",
            hint=on_adapter if is_adapter(folder.adapter) else "Let it finish first.",
        )
    if metrics.get("scoring") is None:
        raise UserError("version-too-old", f"{folder.metrics} does not say which rows are scored: version 0.1 wrote it")
    return FinishedRun(path, recipe, metrics)


def find_runs(paths: Sequence[Path]) -> tuple[list[FinishedRun], list[LeftOut]]:
    """The finished runs in `paths` and their subfolders, ordered by path, and the folders left out.

    Raises:
        UserError: a path is not a folder, or contains no run.
    """
    runs: list[FinishedRun] = []
    left_out: list[LeftOut] = []
    seen: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            raise no_folder_of_kind(path, "Give a run folder, or a folder with runs in it.")
        found = list(run_folders(path))
        if not found:
            raise UserError("not-a-run", f"there is no run in {path}", hint="A run is a folder that red train wrote.")
        for folder in found:
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            try:
                runs.append(read_run(folder))
            except UserError as error:
                first = (line.strip() for line in error.message.splitlines()[:_LINES])
                left_out.append(LeftOut(folder, " ".join(first).removeprefix(f"{folder} ")))
    return runs, left_out
