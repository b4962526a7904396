"""A task's encoder for a tiny base."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from red_cli.edit.model_kinds import DECODER, ENCODER_DECODER
from red_cli.tasks.base import Base
from red_cli.tasks.special_ids import padding_id
from tests.tiny import tiny_config

_MODEL_TYPES = {DECODER.name: "gpt2", ENCODER_DECODER.name: "t5"}


def bound(task: Any, tokenizer: PreTrainedTokenizerBase, max_length: int = 64, **changes: object) -> Any:
    """The encoder of `task` with its label names; `changes` are values of the base's configuration."""
    config = tiny_config(_MODEL_TYPES.get(task.kind.name, "bert"), **changes)
    config.pad_token_id = padding_id(tokenizer)
    names = task.target.names if hasattr(task, "target") else None
    return task.bind(Base(config, tokenizer, max_length, task.kind), names)
