"""Train one recipe under several seeds, one after another, each in its own run folder."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from red_cli.compare.same_inputs import require_same_inputs
from red_cli.errors import UserError, shown
from red_cli.recipe.keys_by_role import overrides_with_role
from red_cli.recipe.load import LoadedRecipe, load_recipe
from red_cli.recipe.roles import Role
from red_cli.recipe.score_format import mean_score
from red_cli.runs.folder import RunFolder
from red_cli.train.events import TrainingListener
from red_cli.train.resume import is_finished

_LARGEST = 2**32
_MOST = 1000  # seeds; more are a typing error
_HOW = "Give whole numbers from 0, or a range, each seed once: --seeds 42,43,44 or --seeds 42-44"


def parse_seeds(text: str) -> list[int]:
    """Parse the seeds to compare, `42,43,44` or `42-44`, to a list.

    Raises:
        UserError: a seed or a range is invalid, a seed is given twice, or there are too many.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.strip().partition("-"))
        for word in (first, last) if first and dash else (part.strip(),):
            if not (word.isascii() and word.isdecimal() and int(word) < _LARGEST):
                raise UserError("invalid-option", f"--seeds {text}: {shown(word)} is not a seed", hint=_HOW)
        start, end = int(first), int(last if dash else first)
        if start > end:
            raise UserError("invalid-option", f"--seeds {text}: {first} is after {last}", hint=_HOW)
        if len(seeds) + end - start >= _MOST:
            raise UserError("invalid-option", f"--seeds {text}: more than {_MOST:,} seeds", hint=_HOW)
        for seed in range(start, end + 1):
            if seed in seeds:
                given = part.strip()
                raise UserError("invalid-option", f"--seeds {text}: {given} is given twice", hint=_HOW)
            seeds.append(seed)
    return seeds


def load_seeds(name: str, variant: str | None, overrides: Sequence[str], seeds: Sequence[int]) -> list[LoadedRecipe]:
    """Load the recipe under each seed. An output.dir becomes the parent of the run folders.

    Raises:
        UserError: the recipe is invalid, or both train.seed and --seeds are given.
    """
    if overrides_with_role(overrides, {Role.SEED}):
        raise UserError("invalid-option", "train.seed is given, and --seeds as well", hint="Drop one of them.")
    runs = []
    for seed in seeds:
        loaded = load_recipe(name, variant, [*overrides, f"train.seed={seed}"])
        if loaded.recipe.output.dir is not None:
            output = loaded.recipe.output.model_copy(
                update={"dir": str(Path(loaded.recipe.output.dir) / f"seed{seed}")}
            )
            loaded = replace(loaded, recipe=loaded.recipe.model_copy(update={"output": output}))
        runs.append(loaded)
    return runs


def train_seeds(runs: Sequence[LoadedRecipe], listener: TrainingListener) -> dict[str, Any]:
    """Train the unfinished runs, and resume interrupted ones.

    Returns:
        "metric", "splits" (split -> metric -> mean, std, values by seed), "paper" and "folders"; see `summary`.

    Raises:
        UserError: a folder holds anything but its run. Nothing has been trained.
        Interrupted: the user stopped it; the same command resumes.
    """
    from red_cli.train.loop import train

    finished = [is_finished(loaded) for loaded in runs]
    for loaded, done in zip(runs, finished, strict=True):
        seed = loaded.recipe.train.seed
        if done:
            listener.note(f"seed {seed}: finished before ({loaded.run_folder})")
            continue
        listener.note(f"seed {seed}")
        train(resuming(loaded), listener)
        gc.collect()
    return summary(runs)


def train_seeds_together(runs: Sequence[LoadedRecipe], listener: TrainingListener) -> dict[str, Any]:
    """Train the unfinished runs in turn on one base, and resume interrupted ones.

    Returns:
        What `train_seeds` returns.

    Raises:
        UserError: a folder holds anything but its run, or the runs need different bases. Nothing has been trained.
        Interrupted: the user stopped them; the same command resumes.
        RunFailed: some runs failed; the others are finished.
    """
    from red_cli.train.together import raise_failures, train_together

    names = {f"seed {loaded.recipe.train.seed}": loaded for loaded in runs}
    finished = {name: is_finished(loaded) for name, loaded in names.items()}
    for name, done in finished.items():
        if done:
            listener.note(f"{name}: finished before ({names[name].run_folder})")
    unfinished = {name: resuming(loaded) for name, loaded in names.items() if not finished[name]}
    raise_failures(train_together(unfinished, listener))
    return summary(runs)


def resuming(loaded: LoadedRecipe) -> LoadedRecipe:
    """The recipe of one seed, which resumes if its run was interrupted: train.resume_from_checkpoint=true."""
    settings = loaded.recipe.train.model_copy(update={"resume_from_checkpoint": True})
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"train": settings}))


def summary(runs: Sequence[LoadedRecipe]) -> dict[str, Any]:
    """Each metric over the seeds of one recipe: mean, sample standard deviation and every seed's value.

    Raises:
        UserError: a folder is damaged or missing, or the runs were not trained on the same rows and base.
    """
    require_same_inputs(runs)
    metrics = {loaded.recipe.train.seed: RunFolder(loaded.run_folder).read_results() for loaded in runs}
    first = next(iter(metrics.values()))
    splits: dict[str, Any] = {}
    for split, scores in first["splits"].items():
        everywhere = [found["splits"].get(split, {}) for found in metrics.values()]
        if not all(everywhere):  # scored by red eval for some seeds only
            continue
        splits[split] = {"examples": scores["examples"]}
        for name in scores:
            if name != "examples" and all(name in found for found in everywhere):
                values = {seed: found["splits"][split][name] for seed, found in metrics.items()}
                mean, spread = mean_score(list(values.values()))
                splits[split][name] = {"mean": mean, "std": spread, "seeds": values}
    return {
        "task": first["task"],
        "base": first["base"],
        "method": first["method"],
        "metric": first["metric"],
        "metric_names": first.get("metric_names", {}),
        "splits": splits,
        "paper": first["paper"],
        "learning_rates": {seed: found["learning_rate"] for seed, found in metrics.items()},
        "folders": {loaded.recipe.train.seed: str(loaded.run_folder) for loaded in runs},
    }
