"""What a run's number of steps, known once the data are read, says of the keys that count in steps."""

from __future__ import annotations

import math

from red_cli.recipe.load import Loaded
from red_cli.recipe.schema import Train

MOST_STEPS = 1_000_000_000


def total_steps(settings: Train, steps_per_epoch: int) -> int:
    """Optimiser steps of the run."""
    return settings.max_steps or max(1, math.ceil(settings.num_train_epochs * steps_per_epoch))


def warmup_steps(settings: Train, total: int) -> int:
    """Steps in which the learning rate rises from 0 to its peak."""
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    return math.ceil(settings.warmup_ratio * total)


def require_schedule(loaded: Loaded, total: int, steps_per_epoch: int) -> None:
    """Refuse a run of `total` optimiser steps that has no end, or that ends before the learning rate has risen.

    Raises:
        UserError: its steps are too many, or those to warm up are more than it has.
    """
    train = loaded.recipe.train
    if total > MOST_STEPS:
        passes = f"{train.num_train_epochs:g} passes over {steps_per_epoch:,} steps are {total:,}"
        raise loaded.refuse(("train", "num_train_epochs"), f"{passes}, more than {MOST_STEPS:,}")
    if warmup_steps(train, total) > total:
        what = f"{train.warmup_steps:,} steps to warm up are more than the {total:,} of the run"
        raise loaded.refuse(("train", "warmup_steps"), what)


def schedule_notes(loaded: Loaded, total: int, steps_per_epoch: int) -> list[str]:
    """Keys of a run of `total` steps that have no effect, in words."""
    train = loaded.recipe.train
    notes = []
    for key in ("eval_steps", "save_steps"):
        steps = getattr(train, key)
        if steps is not None and steps > total:
            notes.append(f"train.{key}: {steps:,} is never reached: the run has {total:,} steps")
    evaluations = math.ceil(total / (train.eval_steps or steps_per_epoch))
    patience = train.early_stopping_patience
    if patience is not None and patience >= evaluations:
        what = f"{patience:,} is never used up: the run evaluates {evaluations:,} times"
        notes.append(f"train.early_stopping_patience: {what}")
    return notes
