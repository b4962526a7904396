"""Run folders as training leaves them, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from red_cli.recipe.load import load_recipe
from red_cli.runs.folder import RunFolder

METRICS = {"cola": "matthews_correlation", "stsb": "pearson"}


def finished_run(
    path: Path,
    recipe: str = "glue_sst2",
    *overrides: str,
    variant: str | None = None,
    score: float = 0.9,
    seed: int = 42,
    splits: dict[str, dict[str, Any]] | None = None,
    **changes: Any,
) -> Path:
    """A run of `recipe` that ended with `score` on its validation split; `changes` go over its metrics."""
    loaded = load_recipe(recipe, variant, [*overrides, f"train.seed={seed}"])
    own = loaded.recipe
    metric = own.eval.metric or METRICS.get(getattr(own.task, "subset", ""), "accuracy")
    folder = RunFolder(path)
    splits = splits or {"validation": {"examples": 100, metric: score}}
    used = {"split": next(iter(splits)), "examples": 100, "rows": "all of it"}
    path.mkdir(parents=True)
    folder.write_start(own)
    folder.write_metrics(
        {
            "task": own.task.title,
            "base": own.model.name_or_path,
            "method": "red",
            "learning_rate": 0.01 if own.train.learning_rate == "auto" else own.train.learning_rate,
            "learning_rate_search": None,
            "metric": metric,
            "best": {"value": score, "step": 20, "epoch": 2.0},
            "scoring": {"split": "standard", "selection": used, "scored": used},
            "splits": splits,
            "paper": None if own.paper is None else own.paper.model_dump(exclude_none=True),
            "parameters": {"edited": 18432, "head": 592130, "base": 124055040, "share": 18432 / 124055040},
            "training": {"steps": 20, "seconds": 60.0, "examples_per_second": 10.0, "peak_memory_bytes": 2**30,
                         "device": "cpu", "seed": seed},
            **changes,
        }
    )  # fmt: skip
    return path
