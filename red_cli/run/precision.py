"""Whether forward passes run in bfloat16, and which attention goes with it."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig

from red_cli.edit.kinds import Kind
from red_cli.recipe.schema import Train

_PLAIN_ATTENTION_UP_TO = 512  # tokens: it keeps the scores of every pair


def uses_bf16(settings: Train) -> bool:
    """Whether forward passes run under bfloat16 autocast, in training and in scoring alike."""
    if settings.bf16 == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return settings.bf16


def fit_attention(config: PretrainedConfig, kind: Kind, settings: Train, max_length: int) -> None:
    """Let heads over short texts take plain attention where a CPU computes in bfloat16.

    The backward pass of torch's fused kernel takes up to seven times as long there (32 rows of 24 tokens: 23 ms
    against 3), which is a third of a whole training step.
    """
    short = max_length <= _PLAIN_ATTENTION_UP_TO
    if kind.trains_head and short and uses_bf16(settings) and not torch.cuda.is_available():
        config._attn_implementation = "eager"
