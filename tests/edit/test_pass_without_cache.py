"""Passes that no further token follows make no key/value cache, and compute the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import AutoModelForSequenceClassification, Cache

from red_cli.edit.model_kinds import SEQUENCE_CLASSIFIER
from red_cli.edit.pass_without_cache import output_without_cache
from tests.tiny import DECODERS, ENCODERS, SEQ2SEQ, make_language_model, tiny_config, tiny_inputs

WITH_HEAD = [name for name in (*ENCODERS, *DECODERS, *SEQ2SEQ) if name in SEQUENCE_CLASSIFIER.class_names]


@contextmanager
def caches() -> Iterator[list[str]]:
    """The classes of all modules that return a cache inside the block; a plan's, without memory, do not count."""
    found: list[str] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        values = output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else ()
        if any(isinstance(value, Cache) for value in values) and module.device.type != "meta":
            found.append(type(module).__name__)

    handle = register_module_forward_hook(keep)
    yield found
    handle.remove()


@pytest.mark.parametrize("model_type", WITH_HEAD)
def test_a_head_predicts_the_same_without_a_cache(model_type: str) -> None:
    """Bit for bit, without padding and with it. Gradients agree to rounding: the cache copies keys and values."""
    torch.manual_seed(0)
    changes = {"eos_token_id": 3, "pad_token_id": 0}
    config = tiny_config(model_type, num_labels=3, **changes if model_type not in ENCODERS else {})
    model = AutoModelForSequenceClassification.from_config(config).eval()
    inputs = tiny_inputs()
    inputs["input_ids"][0, 5] = inputs["input_ids"][1:, -1] = 3  # where an encoder-decoder looks
    for batch in (inputs, {"input_ids": inputs["input_ids"][1:]}):
        with caches() as made:
            expected = model(**batch).logits
        assert made or model_type in ENCODERS or not config.use_cache
        with caches() as made:
            found = output_without_cache(model, batch).logits
        assert not made
        assert torch.equal(found, expected)
        parameters = list(model.parameters())
        gradients = [torch.autograd.grad(logits.square().sum(), parameters, allow_unused=True, materialize_grads=True)
                     for logits in (found, expected)]  # fmt: skip
        torch.testing.assert_close(*gradients)


def test_no_command_on_labels_makes_a_cache(red, recipe: Path, tmp_path: Path) -> None:
    """The search of a learning rate, the spread of outputs, stored states, steps, scores, answers and an export."""
    base = make_language_model(tmp_path / "base", "llama", tie_word_embeddings=True)
    keys = [f"model.name_or_path={base}", "train.learning_rate=auto", "red.layers='2:'", "train.cache_prefix=true"]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a fine film"}) + "\n")
    run = tmp_path / "run"
    with caches() as made:
        for command in (
            ("train", recipe, *keys, "train.max_steps=4"),
            ("eval", run),
            ("predict", run, tmp_path / "rows.jsonl", "-o", tmp_path / "answers.jsonl"),
            ("export", run, "-o", tmp_path / "merged"),
        ):
            outcome = red(*command)
            assert outcome.code == 0, outcome.err
            assert "has no effect" not in outcome.err
    assert not made
