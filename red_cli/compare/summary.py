"""The summary of a comparison, made from the metrics in the run folders."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from red_cli.compare.grid import Point
from red_cli.compare.paired_differences import differences
from red_cli.compare.same_inputs import require_same_inputs
from red_cli.recipe.chosen_metrics import headline_metrics
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.metrics import UNTUNED, is_better
from red_cli.recipe.score_format import mean_score
from red_cli.runs.folder import RunFolder


class Run(Protocol):
    """A run as the summary reads it."""

    @property
    def method(self) -> str: ...
    @property
    def point(self) -> Point: ...
    @property
    def seed(self) -> int: ...
    @property
    def rate(self) -> str | None: ...
    @property
    def loaded(self) -> LoadedRecipe: ...
    @property
    def name(self) -> str: ...


def row_name(method: str, point: Mapping[str, str]) -> str:
    """The name of a row in a comparison's summary: its method and its values of the grid."""
    return " ".join([method, *point.values()])


def summarise(
    folder: Path, runs: Sequence[Run], failed: list[dict[str, Any]], split: str, chose_best: str
) -> dict[str, Any]:
    """Summarise a comparison: one row for each method and point of the grid, over its finished seeds.

    Args:
        split: the split that is compared.
        chose_best: whether "all", "some" or "none" of its rows selected the best evaluation.

    Returns:
        The content of comparison.json (docs/reference/file_formats.md).
    """
    lost = {(entry["name"], entry["seed"]) for entry in failed}
    kept = [run for run in runs if (run.name, run.seed) not in lost]
    require_same_inputs([run.loaded for run in kept if run.method != UNTUNED])
    found: dict[str, dict[int, dict[str, Any]]] = {run.name: {} for run in runs}
    for run in kept:
        place = RunFolder(run.loaded.run_folder)
        found[run.name][run.seed] = place.read_metrics() if run.method == UNTUNED else place.read_results()
    some = next((metrics for seeds in found.values() for metrics in seeds.values()), {})
    names = _common_metrics([metrics for seeds in found.values() for metrics in seeds.values()], split)
    first = {run.name: run for run in reversed(kept)}  # of each row
    rows = [_row(first[name], seeds, split, names) for name, seeds in found.items() if seeds]
    _mark_best(rows)
    return {
        "folder": str(folder),
        "task": some.get("task"),
        "base": some.get("base"),
        "base_parameters": some.get("parameters", {}).get("base"),
        "metrics": names,
        "metric_names": some.get("metric_names", {}),
        "split": split,
        "chose_best": chose_best,
        "examples": some.get("splits", {}).get(split, {}).get("examples"),
        "rows": rows,
        "differences": differences([row for row in rows if row["best_of_grid"] is not False], names),
        "new_head": bool(kept) and _has_head(rows),
        "failed": failed,
    }


def _has_head(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a row of the summary has a trained head, so that an untuned row would have a new one."""
    return any(row["head_parameters"] for row in rows)


def _common_metrics(runs: Sequence[dict[str, Any]], split: str) -> list[str]:
    """The headline metrics in the summary of a comparison: those that every summarised run has."""
    headlines = [headline_metrics(metrics["metric"], metrics["splits"][split]) for metrics in runs]
    return [name for name in headlines[0] if all(name in names for names in headlines)] if headlines else []


def _row(run: Run, seeds: dict[int, dict[str, Any]], split: str, names: Sequence[str]) -> dict[str, Any]:
    """One row of a comparison's summary: scores over seeds, parameters, time and memory.

    Args:
        run: the first of the row.
        seeds: the metrics by seed.
    """
    first = next(iter(seeds.values()))
    scores = {}
    for name in names:
        values = {seed: metrics["splits"][split][name] for seed, metrics in seeds.items()}
        mean, spread = mean_score(list(values.values()))
        scores[name] = {"mean": mean, "std": spread, "seeds": values}
    training = [metrics["training"] for metrics in seeds.values()]
    steps = sum(taken["steps"] for taken in training)
    tensors = RunFolder(run.loaded.run_folder).adapter.glob("*.safetensors")
    chosen = {seed: metrics["best"]["value"] for seed, metrics in seeds.items()}
    return {
        "method": run.method,
        "name": run.name,
        "point": {setting.key: setting.value for setting in run.point},
        "scores": scores,
        "selection": {
            "split": first["scoring"]["selection"]["split"],
            "metric": first["metric"],
            "mean": statistics.fmean(chosen.values()),
            "seeds": chosen,
        },
        "best_of_grid": None,
        "trained_parameters": first["parameters"]["edited"],
        "head_parameters": first["parameters"]["head"],
        "learning_rates": {seed: metrics["learning_rate"] for seed, metrics in seeds.items()},
        "rate_from": run.rate,
        "seconds_per_step": sum(taken["seconds"] for taken in training) / steps if steps else None,
        "peak_memory_bytes": max(taken["peak_memory_bytes"] for taken in training) if steps else None,
        "file_bytes": sum(path.stat().st_size for path in tensors) if steps else None,
    }


def _mark_best(rows: list[dict[str, Any]]) -> None:
    """Mark the best row of each method's grid in a summary, by the mean over seeds of what selects evaluations.

    Test scores do not choose. A row that misses a seed is not chosen if others have it.
    """
    for method in dict.fromkeys(row["method"] for row in rows if row["point"]):
        own = [row for row in rows if row["method"] == method]
        most = max(len(row["selection"]["seeds"]) for row in own)
        best = None
        for row in own:
            row["best_of_grid"] = False
            selection = row["selection"]
            if len(selection["seeds"]) == most and (
                best is None or is_better(selection["metric"], selection["mean"], best["selection"]["mean"])
            ):
                best = row
        if best is not None:
            best["best_of_grid"] = True
