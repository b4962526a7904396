"""Score a run, an adapter or an exported model on a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from red_cli.errors import RunFailed
from red_cli.recipe.schema import Recipe, paper_figure
from red_cli.run.base_model import load_tokenizer, resolve_max_length, to_device
from red_cli.run.events import Listener
from red_cli.run.folder import RunFolder
from red_cli.run.memory import out_of_memory
from red_cli.run.plan import RowsUsed
from red_cli.run.precision import uses_bf16
from red_cli.run.target import Target, load_model
from red_cli.run.task import recipe_task
from red_cli.tasks.base import Encoded, Prediction, Task
from red_cli.tasks.data import Rows
from red_cli.tasks.splits import chose_best, scored_split

_TRAINING_TO_EVALUATION = 2  # without activations to keep, twice as many rows fit


def predict(
    model: PreTrainedModel, task: Task, encoded: Encoded, batch_size: int, tick: Callable[[int, int], None]
) -> list[Prediction]:
    """The model's answer to every row, in the rows' order.

    Rows go through longest first, so that memory runs out at once or never; then the batch size is halved. Of each
    batch only the answers are kept. `tick` is told (rows done, rows in all) after each batch.
    """
    order = np.argsort(-encoded.lengths, kind="stable")
    answers: list[Prediction | None] = [None] * len(encoded)
    was_training = model.training
    model.eval()
    done = 0
    try:
        while done < len(order):
            rows = order[done : done + batch_size]
            try:
                with torch.inference_mode():
                    predictions = task.predict(model, task.collate(encoded, rows).to(model.device))
            except RuntimeError as error:
                if not out_of_memory(error) or batch_size == 1:
                    raise
                batch_size = -(-batch_size // 2)
                continue
            for row, answer in zip(rows.tolist(), predictions, strict=True):
                answers[row] = answer
            done += len(rows)
            tick(done, len(order))
    finally:
        model.train(was_training)
    return [answer for answer in answers if answer is not None]


def evaluation_batch_size(wanted: int | None, training_size: int) -> int:
    """Rows at once: what the recipe wants, else in proportion to training's."""
    return wanted or _TRAINING_TO_EVALUATION * training_size


def evaluate(target: Target, split: str | None, output: Path, listener: Listener) -> dict[str, Any]:
    """Score `target` on a split of its task's data; write metrics.json and predictions/ to `output`.

    `split` None takes what the paper scores where the recipe has the paper's cut, else the test split where it has
    labels, else the first validation split, else the only one there is. A split without labels is predicted and not
    scored. "chose_best" of the result says whether all, some or none of the rows chose the run's best evaluation; None
    where that cannot be known.

    Raises:
        UserError: the split, the data or the model cannot be had.
    """
    recipe = target.recipe
    folder = RunFolder(output)
    folder.read_metrics()
    listener.working("reading the data, loading the model")
    task = recipe_task(recipe, target.label_names)
    split, rows = _choose_split(task, split, recipe.train.seed)
    model, config = load_model(target)
    tokenizer = load_tokenizer(recipe.model)
    encoded = task.encode(rows, tokenizer, resolve_max_length(recipe.data.max_length, config, tokenizer))
    to_device(model, "cuda" if torch.cuda.is_available() else "cpu")
    size = evaluation_batch_size(recipe.eval.batch_size, recipe.train.micro_batch_size or recipe.train.batch_size)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=uses_bf16(recipe.train)):
        predictions = predict(model, task, encoded, size, listener.evaluating)
    folder.write_predictions(split, predictions, rows.places)
    result: dict[str, Any] = {
        **asdict(RowsUsed.of(split, rows)),
        "chose_best": chose_best(task, split) if target.same_rows else None,
        "metric": task.metric,
        "scores": None,
    }
    if encoded.labels is not None:
        result["scores"] = task.score(predictions)
        if any(not np.isfinite(value) for value in result["scores"].values()):
            raise RunFailed(f"a metric of {split} is not finite: {result['scores']}")
        folder.write_metrics(
            {"metric": task.metric, "splits": {split: {"examples": len(predictions), **result["scores"]}}}
        )
    if (figure := paper_figure(recipe)) is not None:
        result["paper"] = figure
    result["folder"] = str(folder.path)
    result["predictions"] = str(folder.predictions(split))
    return result


def evaluation_folder(folder: Path, overrides: Sequence[str]) -> Path:
    """Where an evaluation writes: the folder that is scored, or, where anything was changed, a new one inside it."""
    if not overrides:
        return folder
    number = 1
    while (folder / "evaluations" / str(number)).exists():
        number += 1
    return folder / "evaluations" / str(number)


def default_split(recipe: Recipe) -> tuple[str, str]:
    """The split that is scored where none is named, and whether all, some or none of its rows chose the best."""
    task = recipe_task(recipe)
    split = _choose_split(task, None, recipe.train.seed)[0]
    return split, chose_best(task, split)


def _choose_split(task: Task, split: str | None, seed: int) -> tuple[str, Rows]:
    names = task.split_names()
    if split is None and task.paper_cut is not None and scored_split(task) in names:
        split = scored_split(task)
    if split is None and "test" in names:
        rows = task.load(seed, ("test",))["test"]
        if task.has_labels(rows):
            return "test", rows
    if split is None:
        split = names[0] if len(names) == 1 else task.validation_splits[0]
    return split, task.load(seed, (split,))[split]
