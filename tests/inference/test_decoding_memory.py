"""The memory of a decoding is reckoned by the keys and values that a model keeps."""

from __future__ import annotations

import pytest
import torch

from red_cli.inference.decoding_memory import cache_numbers
from tests.tiny import DECODERS, named, tiny_config, tiny_model

CHANGED = {"llama": {"num_key_value_heads": 1}, "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2}}


def kept_numbers(model: torch.nn.Module, tokens: int) -> int:
    """How many numbers the model's own cache of one sequence holds."""
    with torch.inference_mode():
        cache = model(input_ids=torch.full((1, tokens), 5), use_cache=True).past_key_values
    return sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)


def test_the_cache_of_every_decoder() -> None:
    """Grouped-query attention keeps fewer heads than it attends with."""
    for model_type in DECODERS:
        with named(model_type):
            model = tiny_model(model_type)
            assert cache_numbers(model.config, 6) == kept_numbers(model, 6)


@pytest.mark.parametrize("model_type", CHANGED)
def test_the_cache_of_other_configurations(model_type: str) -> None:
    model = tiny_model(model_type, **CHANGED[model_type])
    assert cache_numbers(model.config, 6) == kept_numbers(model, 6)
    eight = tiny_config("llama", num_attention_heads=8, num_key_value_heads=8, head_dim=8)
    one = tiny_config("llama", num_attention_heads=8, num_key_value_heads=1, head_dim=8)
    assert cache_numbers(eight, 6) == 8 * cache_numbers(one, 6)
