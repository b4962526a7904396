"""Score a run, an adapter or an exported model on a split."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from red_cli.base_model.load import load_config
from red_cli.errors import Interrupted, RunFailed
from red_cli.inference.errors_file import write_errors
from red_cli.inference.findings import find
from red_cli.inference.generate import ResumableOutput
from red_cli.inference.predict import predict
from red_cli.inference.runtime import join_for_inference, load_runtime
from red_cli.recipe.chosen_metrics import text_metrics
from red_cli.recipe.metric_names import metric_names
from red_cli.recipe.schema import Recipe
from red_cli.recipe.shipped_rates import rate_advice
from red_cli.runs.events import Listener, NullListener
from red_cli.runs.folder import RunFolder
from red_cli.runs.load_opened import load_task
from red_cli.runs.metrics_file import is_finished
from red_cli.runs.open_trained import Opened
from red_cli.runs.preflight import preflight_evaluation
from red_cli.runs.result_notes import Facts, notes_json, notes_on
from red_cli.tasks.base import Task, chose_best, scored_split
from red_cli.tasks.build import build_task
from red_cli.tasks.data.rows import RowsUsed
from red_cli.tasks.data.splits import Splits
from red_cli.tasks.encoded.cached import encode_splits, uses_text
from red_cli.tasks.special_tokens import SpecialTokens
from red_cli.tasks.text_metrics.score import not_computed
from red_cli.tasks.text_metrics.text_files import write_texts


def evaluate(
    target: Opened, split: str | None, output: Path, listener: Listener, limit: int | None = None
) -> dict[str, Any]:
    """Score `target` on a split of its task's data; write metrics.json and predictions/ to `output`.

    Every rank predicts a share of the rows; rank 0 scores and writes, and the others return an empty result.

    A split without labels is predicted but not scored. "chose_best" of the result says whether all, some or none of the
    rows chose the run's best evaluation; None if unknown.

    Args:
        split: None takes the paper's scored split if the recipe uses it, else the test split if it has labels, else the
            only split or the first validation split.
        limit: predict the first so many rows only. Their score is not the split's: metrics.json is not changed, and the
            predictions have a file of their own.

    Raises:
        UserError: the split, the data or the model cannot be read.
    """
    recipe = target.recipe
    folder = RunFolder(output)
    preflight_evaluation(target, split, output)
    processes = join_for_inference(recipe, listener)
    if not processes.main:
        listener = NullListener()
    listener.status("reading the data, loading the model")
    task, base = load_task(target)
    split, splits = _choose_split(task, split, recipe.train.seed)
    label_names = splits.label_names
    encoder = task.bind(base, label_names)
    limited = limit is not None and splits.rows[split].table.num_rows > limit
    if limited:
        first = splits.rows[split].slice(0, limit or 0)
        splits.rows[split] = replace(first, selection=f"the first {limit:,} rows of {first.selection or split}")
    encoded_splits, cache_uses = encode_splits(encoder, {split: splits.rows[split]})
    encoded = encoded_splits[split]
    if cache_uses:
        listener.note(f"Encoded rows: {uses_text(cache_uses)}.")
    for note in encoded.notes:
        listener.note(note)
    rows = encoded.kept_rows(split, splits.rows[split])
    for note in rows.notes:
        listener.note(note)
    for line in SpecialTokens.of(encoder, rows).lines(split):
        listener.note(line)
    runtime = load_runtime(target, base, listener, processes)
    name = f"{split}-first-{limit}" if limited else split
    resumable = ResumableOutput(folder.partial(name), target.identity)
    size = recipe.train.micro_batch_size or recipe.train.batch_size
    with runtime.predicting():
        try:
            predictions = predict(encoder, encoded, runtime, micro_batch_size=size, final=True, resumable=resumable)
        except KeyboardInterrupt:
            if not resumable.path.is_file():
                raise
            elsewhere = "" if output == target.folder else f" and --output {output}"
            raise Interrupted(
                "interrupted",
                f"stopped while generating texts; {resumable.path} keeps the finished ones",
                hint=f"Resume with the same command{elsewhere}.",
            ) from None
    if not processes.main:
        return {}
    folder.write_predictions(name, predictions, rows.source_indices)
    texts, references = task.generated_texts(predictions)
    if texts:
        text_file, reference_file = folder.texts(name)
        write_texts(text_file, reference_file if all(references) else None, texts, references)
    result: dict[str, Any] = {
        **asdict(RowsUsed.of(split, rows)),
        "chose_best": chose_best(task, split) if target.same_rows else None,
        "metric": task.metric,
        "metric_names": metric_names(task.metrics, label_names),
        "inputs": len(texts) or len(predictions),
        "truncated": encoded.truncated,
        "ends_cut": encoded.ends_cut,
        "max_length": base.max_length,
        "limit": limit if limited else None,
        "scores": None,
        "not_computed": {},
        "notes": [],
    }
    if encoded.labels is not None:
        listener.status("scoring")
        result["scores"] = task.score(predictions, label_names)
        result["not_computed"] = not_computed(metric for metric in text_metrics(recipe) if texts)
        if any(not np.isfinite(value) for value in result["scores"].values()):
            raise RunFailed("run-not-finite", f"a metric of {split} is not finite: {result['scores']}")
        found = find(task, encoder, label_names, rows, encoded, predictions, result["scores"], split)
        if found.errors is not None and not limited:
            write_errors(folder.errors, split, found.errors)
        result |= found.to_json()
        facts = Facts(task.metric, base.max_length, [found.facts], rate_advice=rate_advice(recipe))
        result["notes"] = notes_json(notes_on(facts))
        result |= {"untuned": None} if limited else _untuned(target, folder, split)
    if encoded.labels is not None and not limited:
        kept = _selecting_score(folder, split, task.metric, result["scores"])
        folder.write_metrics(
            {
                "metric": task.metric,
                "metric_names": result["metric_names"],
                "splits": {split: {"examples": len(predictions), **kept, **result["scores"]}},
                **found.to_json(),
                "notes": result["notes"],
            }
        )
    resumable.remove()  # only now, so that a failing metric does not lose generated texts
    if (figure := recipe.paper_figure) is not None:
        result["paper"] = figure
    result["folder"] = str(folder.path)
    result["predictions"] = str(folder.predictions(name))
    result["texts"] = str(folder.texts(name)[0]) if texts else None
    return result


def _untuned(target: Opened, folder: RunFolder, split: str) -> dict[str, Any]:
    """The untuned score that goes with evaluating a run on this split, with the run's "parameters", as recorded."""
    metrics = folder.read_metrics() if target.same_rows and folder.path == target.folder else {}
    untuned = metrics.get("untuned") if is_finished(metrics) else None
    if untuned is None or untuned["split"] != split:
        return {"untuned": None}
    return {"untuned": untuned, "parameters": metrics["parameters"]}


def default_split(recipe: Recipe) -> tuple[str, str]:
    """The split that `evaluate` scores by default, and whether all, some or none of its rows chose the best."""
    task = build_task(recipe, load_config(recipe.model))
    split = _choose_split(task, None, recipe.train.seed)[0]
    return split, chose_best(task, split)


def _choose_split(task: Task, split: str | None, seed: int) -> tuple[str, Splits]:
    """Choose the split to score, if none is named: the paper's, a labelled test split, or validation; load it."""
    names = task.split_names()
    if split is None and task.paper_cut is not None and scored_split(task) in names:
        split = scored_split(task)
    if split is None and "test" in names:
        splits = task.load(seed, ("test",))
        if task.has_labels(splits.rows["test"], splits.label_names):
            return "test", splits
    if split is None:
        split = names[0] if len(names) == 1 else task.validation_splits[0]
    return split, task.load(seed, (split,))


def _selecting_score(folder: RunFolder, split: str, metric: str, scores: dict[str, float]) -> dict[str, float]:
    """The recorded score of an evaluation's split that selected the best checkpoint, where `scores` leave it out."""
    recorded = folder.read_metrics().get("splits", {}).get(split, {})
    return {metric: recorded[metric]} if metric in recorded and metric not in scores else {}
