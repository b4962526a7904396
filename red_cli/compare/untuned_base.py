"""Score a base that nothing was trained on, as the row `none` of a comparison."""

from __future__ import annotations

from red_cli.base_model.base_dtype import fetch_for_dtype, with_base_dtype
from red_cli.base_model.load import load_config
from red_cli.compare.learning_rates import without_weights
from red_cli.inference.evaluate import evaluate
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.schema import Recipe
from red_cli.runs.consent import OpenedRecipe
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder
from red_cli.runs.open_trained import OpenedBase
from red_cli.tasks.base import scored_split
from red_cli.tasks.build import build_task


def score_untuned_base(loaded: LoadedRecipe, split: str, listener: Listener) -> None:
    """Score the base of a recipe on `split` and on the splits that a run scores; write the folder of a run to it.

    The head is the one that a run starts from, drawn with train.seed.

    Raises:
        UserError: the data or the base cannot be read.
    """
    recipe, folder = loaded.recipe, RunFolder(loaded.run_folder)
    config = load_config(recipe.model)
    fetch_for_dtype(recipe, listener.status)
    recipe = with_base_dtype(recipe, config)
    task = build_task(recipe, config)
    selection, scored = task.validation_splits[0], scored_split(task)
    label_names = task.load(recipe.train.seed, ("train", *task.validation_splits)).label_names
    base_size = without_weights(recipe).counts.base
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_start(recipe, note="Nothing was trained: these are the scores of the base itself.")
    used, metric = {}, task.metric
    opened = OpenedRecipe(_with_selection(recipe, metric))
    base = OpenedBase(folder.path, None, opened, same_rows=True, label_names=label_names)
    for name in dict.fromkeys([scored, selection, split]):
        result = evaluate(base, name, folder.path, listener)
        used[name] = {key: result[key] for key in ("split", "examples", "rows")}
    scores = folder.read_metrics()["splits"]
    folder.write_metrics(
        {
            "task": recipe.task.title,
            "base": recipe.model.name_or_path,
            "method": UNTUNED,
            "metric": metric,
            "best": {"value": scores[selection][metric], "step": 0, "epoch": 0.0},
            "scoring": {"split": recipe.eval.split, "selection": used[selection], "scored": used[scored]},
            "paper": None,
            "parameters": {"edited": 0, "head": 0, "base": base_size, "share": 0.0},
            "learning_rate": None,
            "learning_rate_search": None,
            "training": {
                "steps": 0,
                "seconds": 0.0,
                "examples_per_second": 0.0,
                "peak_memory_bytes": 0,
                "device": "none",
                "seed": recipe.train.seed,
            },
        }
    )


def _with_selection(recipe: Recipe, metric: str) -> Recipe:
    """The recipe of a base to score: the loss that selects checkpoints is computed, whatever eval.metrics lists."""
    if metric != "loss" or not recipe.eval.metrics:
        return recipe
    listed = recipe.eval.model_copy(update={"metrics": [*recipe.eval.metrics, "loss"]})
    return recipe.model_copy(update={"eval": listed})
