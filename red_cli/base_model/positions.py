"""The longest sequence that a model has positions for, found from its own table of positions."""

from __future__ import annotations

import contextlib
import copy
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

_NO_LIMIT = 10**6  # tokenizers without a limit have 10**30
_TABLE_NAMES = ("position", "embed_pos", "wpe")  # parts of the names that transformers gives to tables of positions
_TABLE_DIMENSIONS = 2
# Positions of something other than tokens: of pictures, of sound, of boxes on a page, of entities
_NOT_OF_TOKENS = ("vision", "visual", "image", "img", "audio", "speech", "x_pos", "y_pos", "entity", "rel", "layers")


def most_positions(config: PretrainedConfig) -> int | None:
    """The most tokens of a sequence by `max_position_embeddings` and the model's table; None if neither limits it.

    Some models number the positions from the row after the padding (RoBERTa's layout), or leave the first rows out
    (BART, OPT), so that `max_position_embeddings` or the table counts more than can be used.
    """
    configured = getattr(config, "max_position_embeddings", None)
    limits = [limit for limit in (configured or None, _usable_rows(_Key(config))) if limit is not None]
    return min(limits, default=None)


class _Key:
    """A configuration as a key of the cache: two are the same if their content is."""

    def __init__(self, config: PretrainedConfig) -> None:
        self.config = config
        self.text = f"{type(config)} {config.to_json_string(use_diff=False)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@lru_cache(maxsize=8)
def _usable_rows(key: _Key) -> int | None:
    """The usable rows of the table of positions; None for a model without such a table or one of unknown class."""
    model = _without_weights(key.config)
    return None if model is None else usable_rows(model)


def usable_rows(model: nn.Module) -> int | None:
    """The usable rows of a model's table of positions; None if it has none. Weights may be on the meta device.

    An encoder-decoder's is its encoder's, which reads the prompt.
    """
    tables = {name: module for name, module in model.named_modules() if _is_table(name, module)}
    encoders = {name: module for name, module in tables.items() if "decoder" not in name}
    found = [_rows(module) - _first_row(module) for module in (encoders or tables).values()]
    return min(found, default=None)


def _without_weights(config: PretrainedConfig) -> PreTrainedModel | None:
    """The model with the positions to look up, on the meta device, of one layer if possible; None if not built."""
    mapping = next((each for each in (MODEL_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING) if type(config) in each), None)
    found: Any = None if mapping is None else mapping[type(config)]
    if found is None or isinstance(found, tuple):  # code of its own, or several classes
        return None
    for make in (_of_one_layer, copy.deepcopy):
        # Each model type raises its own errors; if it has a fault, building the run's model reports it
        with contextlib.suppress(Exception), torch.device("meta"):
            return found._from_config(make(config))
    return None


def _of_one_layer(config: PretrainedConfig) -> PretrainedConfig:
    """A copy of the configuration with one layer, enough to find the table of positions."""
    short = copy.deepcopy(config)
    short.num_hidden_layers = 1
    return short


def _is_table(name: str, module: nn.Module) -> bool:
    """Whether a module is a table of positions for tokens, judged by its name and its weight."""
    own = name.rpartition(".")[2]
    weight = getattr(module, "weight", None)
    return (
        not isinstance(module, nn.Linear)
        and any(part in own for part in _TABLE_NAMES)
        and not any(part in name for part in _NOT_OF_TOKENS)
        and isinstance(weight, torch.Tensor)
        and weight.dim() == _TABLE_DIMENSIONS
    )


def _rows(module: nn.Module) -> int:
    """The number of positions in a table of them."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight.shape[0]


def _first_row(module: nn.Module) -> int:
    """The row of the first token: after the padding's, or after those that the module skips."""
    padding, offset = getattr(module, "padding_idx", None), getattr(module, "offset", 0)
    return int(offset) if padding is None else padding + 1


def longest_sequence(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest sequence, in tokens, that the positions of a base and its tokenizer allow."""
    return min(tokenizer.model_max_length, most_positions(config) or _NO_LIMIT, _NO_LIMIT)
