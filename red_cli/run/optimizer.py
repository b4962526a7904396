"""AdamW over the edits and the head, and the learning rate's course."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, get_scheduler

from red_cli.edit.attachment import active_adapter
from red_cli.edit.model import edits
from red_cli.recipe.schema import Train


def build_optimizer(model: PreTrainedModel, settings: Train) -> torch.optim.AdamW:
    """AdamW with one group each for scales, biases and the head (those that exist)."""
    scales = [edit.scale for _, edit in edits(model) if edit.scale is not None]
    biases = [edit.bias for _, edit in edits(model) if edit.bias is not None]
    head = [model.get_parameter(name) for name in active_adapter(model).head]
    head_rate = settings.head_learning_rate or settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": scales, "lr": settings.learning_rate, "weight_decay": 0.0},
        {"params": biases, "lr": settings.learning_rate, "weight_decay": settings.weight_decay},
        {"params": head, "lr": head_rate, "weight_decay": settings.weight_decay},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def total_steps(settings: Train, steps_per_epoch: int) -> int:
    """Optimiser steps of the whole run."""
    return settings.max_steps or max(1, math.ceil(settings.num_train_epochs * steps_per_epoch))


def warmup_steps(settings: Train, total: int) -> int:
    """Steps in which the learning rate rises from 0 to its peak."""
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    return math.ceil(settings.warmup_ratio * total)


def build_scheduler(optimizer: torch.optim.Optimizer, settings: Train, total: int) -> LRScheduler:
    """The schedule of transformers that the recipe names, stepped once for each optimiser step."""
    return get_scheduler(
        settings.lr_scheduler_type,
        optimizer,
        num_warmup_steps=warmup_steps(settings, total),
        num_training_steps=total,
    )
