"""Prepare all of a run but the weights: data, configuration and tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from red_cli.base_model.load import load_config
from red_cli.base_model.prepare import prepare_base
from red_cli.errors import UserError, shown
from red_cli.recipe.chosen_metrics import with_metric
from red_cli.recipe.metrics import Metric
from red_cli.recipe.schema import Recipe
from red_cli.tasks.base import Base, Encoded, Encoder, Task, scored_split
from red_cli.tasks.build import build_task
from red_cli.tasks.data.rows import Rows, RowsUsed
from red_cli.tasks.data.splits import draw_by_class, draw_rows
from red_cli.tasks.encoded.cached import CacheUse, encode_splits
from red_cli.tasks.labels.class_weights import class_weights, weights_note, with_class_weights
from red_cli.tasks.special_tokens import SpecialTokens


@dataclass(frozen=True)
class Scoring:
    """The prepared split that chooses the best evaluation, and the one that is scored; "standard" uses one for both."""

    split: str  # eval.split
    selection: RowsUsed
    scored: RowsUsed


@dataclass(frozen=True)
class Prepared:
    """The task, data and base of a recipe, without the weights."""

    task: Task
    base: Base
    encoder: Encoder
    label_names: list[str] | None
    encoded: dict[str, Encoded]  # the splits that training needs
    selection: Encoded  # the rows of evaluations during training: all or some of the selection split
    cache_uses: dict[str, CacheUse]  # of the large ones among them
    special_tokens: dict[str, SpecialTokens]  # in the texts of each of these splits
    source_indices: dict[str, NDArray[np.int64] | None]  # by split; None: all rows of the source
    scored_rows: Mapping[str, Rows]  # of the validation splits, whose texts are shown with errors
    scoring: Scoring
    classes: Mapping[str, dict[str, int]] = field(default_factory=dict)  # split -> label -> number of rows
    default_metric: Metric | None = None  # that the classes suggest; None: the recipe's, or the task's usual one
    class_weights: Mapping[str, float] | None = None  # label -> weight in the training loss
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # split -> reason -> number of bad rows
    notes: Sequence[str] = ()  # what was guessed in reading the data


def prepare(recipe: Recipe) -> Prepared:
    """Read data, tokenizer and configuration, and encode the training and validation splits.

    Raises:
        UserError: one of them cannot be used.
    """
    config = load_config(recipe.model)
    task = build_task(recipe, config)
    needed = ("train", *task.validation_splits)
    splits = task.load(recipe.train.seed, needed)
    rows, label_names = splits.rows, splits.label_names
    # Before rows are drawn, so that all seeds have the same
    metric, why = _default_metric(recipe, task.classes(rows["train"], label_names))
    if metric is not None:
        task = build_task(with_metric(recipe, metric), config)
    rows["train"] = draw_rows(rows["train"], recipe.data.max_train_rows, recipe.train.seed)
    train_classes = task.classes(rows["train"], label_names)
    weights = None
    if recipe.train.class_weights is not None and train_classes:
        weights = class_weights(recipe.train.class_weights, train_classes)
    base = prepare_base(config, recipe, task.kind, label_names)
    encoder = task.bind(base, label_names)
    encoded, cache_uses = encode_splits(encoder, {split: rows[split] for split in needed})
    first = task.validation_splits[0]
    drawn = _rows_on_the_way(task, rows[first], label_names, recipe)
    for split in needed:
        rows[split] = encoded[split].kept_rows(split, rows[split])
        require_labels(encoded[split], rows[split].source, task.label_column)
        if encoded[split].features["input_ids"].max() >= getattr(config, "vocab_size", math.inf):
            raise UserError(
                "unsupported-tokenizer", f"{recipe.model.name_or_path}: the tokenizer has more tokens than the model"
            )
    if weights is not None:
        encoder = with_class_weights(encoder, weights)
    used = {split: RowsUsed.of(split, rows[split]) for split in needed}
    selection = encoded[first] if drawn is None else encoder.encode(drawn)
    selected = used[first] if drawn is None else RowsUsed.of(first, selection.kept_rows(first, drawn))
    scoring = Scoring(recipe.eval.split, selected, used[scored_split(task)])
    special_tokens = {split: SpecialTokens.of(encoder, rows[split]) for split in needed}
    others = {split: task.classes(rows[split], label_names) for split in needed if split != "train"}
    classes = {"train": train_classes, **others}
    return Prepared(
        task=task,
        base=base,
        encoder=encoder,
        label_names=label_names,
        encoded=encoded,
        selection=selection,
        cache_uses=cache_uses,
        special_tokens=special_tokens,
        source_indices={split: rows[split].source_indices for split in needed},
        scored_rows={split: rows[split] for split in task.validation_splits},
        scoring=scoring,
        classes={split: counts for split, counts in classes.items() if counts},
        default_metric=metric,
        class_weights=weights,
        left_out={split: rows[split].left_out for split in needed},
        notes=[
            *dict.fromkeys(note for split in needed for note in rows[split].notes),
            *([] if metric is None else [why]),
            *([] if weights is None else [weights_note(weights)]),
        ],
    )


def _rows_on_the_way(task: Task, rows: Rows, label_names: list[str] | None, recipe: Recipe) -> Rows | None:
    """The rows of the selection split prepared for evaluations during training; None if they take all."""
    most = recipe.eval.max_rows
    if most is None or rows.table.num_rows <= most:
        return None
    classes = rows.column(task.label_column) if task.classes(rows, label_names) else None
    return draw_by_class(rows, task.validation_splits[0], most, recipe.train.seed, classes)


def _default_metric(recipe: Recipe, classes: Mapping[str, int]) -> tuple[Metric | None, str]:
    """Prepare a run's metric by its training classes, with why; None keeps the recipe's or the usual one."""
    metric = recipe.task.default_metric(classes)
    if recipe.eval.metric is not None or metric == recipe.task.metrics[0]:
        return None, ""
    label = max(classes, key=lambda name: classes[name])
    share = classes[label] / sum(classes.values())
    return metric, f"macro F1 selects (eval.metric: {metric}): {share:.0%} of the training rows are {shown(label)}"


def require_labels(encoded: Encoded, source: str, column: str) -> None:
    """Check that a split to prepare has its column of labels.

    Raises:
        UserError: the column of labels is missing or empty.
    """
    if encoded.labels is None:
        raise UserError(
            "invalid-label",
            f"{source}: column {shown(column)} is missing or empty",
            hint="Name the column of labels or completions in data.columns.",
        )
