"""AdamW over the trainable parameters, and the learning-rate scheduler."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from red_cli.methods.method import Trained
from red_cli.recipe.schema import Train


def build_optimizer(trained: Trained, settings: Train) -> torch.optim.AdamW:
    """AdamW with three parameter groups: the method's without weight decay, the method's with it, and the head.

    `settings.learning_rate` must be a number.
    """
    rate = settings.learning_rate
    spared = [name for name in trained.method_parameters if name in trained.no_decay]
    decayed = [name for name in trained.method_parameters if name not in trained.no_decay]
    groups: list[dict[str, Any]] = [
        {"params": trained.parameters(spared), "lr": rate, "weight_decay": 0.0},
        {"params": trained.parameters(decayed), "lr": rate, "weight_decay": settings.weight_decay},
        {
            "params": trained.parameters(trained.head),
            "lr": settings.head_learning_rate or rate,
            "weight_decay": settings.weight_decay,
        },
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def build_scheduler(optimizer: torch.optim.Optimizer, name: str, warmup_steps: int, total_steps: int) -> LRScheduler:
    """The learning-rate scheduler `name` of transformers; it steps once per optimiser step."""
    return get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=total_steps)
