"""Whether forward passes run in bfloat16."""

from __future__ import annotations

import torch

from red_cli.recipe.schema import Train


def uses_bf16(settings: Train) -> bool:
    """Whether forward passes run under bfloat16 autocast, in training and in scoring alike."""
    if settings.bf16 == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return settings.bf16
