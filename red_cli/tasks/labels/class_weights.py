"""Class weights: how much the rows of each class count in the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from red_cli.errors import UserError, did_you_mean, one_line, shown
from red_cli.formatting import some_of
from red_cli.recipe.train_section import ClassWeights
from red_cli.tasks.base import Encoder
from red_cli.tasks.labels.encoder import LabelEncoder

_SHOWN = 10  # classes in a line


def class_weights(wanted: ClassWeights, counts: Mapping[str, int]) -> dict[str, float]:
    """Label -> weight, in the order of class ids.

    Balanced weights are those of scikit-learn: rows / (classes * rows of the class). A label that the recipe does not
    name has the weight 1, and so has a class without training rows, whose weight is never used.

    Args:
        counts: label -> number of training rows.

    Raises:
        UserError: the recipe names a label that is not one of the classes.
    """
    if wanted == "balanced":
        rows, classes = sum(counts.values()), sum(count > 0 for count in counts.values())
        return {label: rows / (classes * count) if count else 1.0 for label, count in counts.items()}
    if unknown := [label for label in wanted if label not in counts]:
        raise UserError(
            "labels-mismatch",
            f"train.class_weights: {shown(unknown[0])} is not one of the classes",
            hint=f"{did_you_mean(unknown[0], counts)}The classes: {some_of([one_line(label) for label in counts])}",
        )
    return {label: wanted.get(label, 1.0) for label in counts}


def weights_note(weights: Mapping[str, float]) -> str:
    """Class weights in words, for a plan."""
    named = [f"{one_line(label)} {weight:.3g}" for label, weight in weights.items()]
    more = f", … for {len(named):,} classes" if len(named) > _SHOWN else ""
    return f"the training loss weighs the classes, metrics do not: {', '.join(named[:_SHOWN])}{more}"


def with_class_weights(encoder: Encoder, weights: Mapping[str, float]) -> Encoder:
    """The encoder of a task with labels, with weights in its training loss."""
    assert isinstance(encoder, LabelEncoder)  # the recipe has class weights only for such tasks
    return replace(encoder, class_weights=tuple(weights.values()))
