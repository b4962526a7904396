"""Prepare a base for its task: configuration, tokenizer and maximum length; everything but the weights."""

from __future__ import annotations

import copy
import math

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.base_model.load import load_tokenizer
from red_cli.base_model.positions import longest_sequence
from red_cli.distributed.device import chosen_device, has_accelerator, prefers_bf16
from red_cli.edit.architectures import architecture_of
from red_cli.edit.model_kinds import ModelKind
from red_cli.errors import UserError
from red_cli.recipe.schema import Recipe, Train
from red_cli.recipe.sections import Model
from red_cli.tasks.base import Base
from red_cli.tasks.special_ids import padding_id

_USUAL_HEAD_DROPOUT = "classifier_dropout"
_PLAIN_ATTENTION_UP_TO = 512  # tokens; plain attention saves the scores of all pairs


def prepare_base(config: PretrainedConfig, recipe: Recipe, kind: ModelKind, label_names: list[str] | None) -> Base:
    """Load the tokenizer, and adapt the configuration to recipe, task and tokenizer. The weights are not needed.

    Args:
        config: the result of `load_config`; it is changed in place and becomes part of the result.
        label_names: label names in the order of class ids; None if the task has no labels.

    Raises:
        UserError: the tokenizer cannot be used, or the base does not support the recipe's dropout or length.
    """
    fit_config(config, recipe.model, kind, label_names)
    tokenizer = load_tokenizer(recipe.model)
    longest = longest_sequence(config, tokenizer)
    config.pad_token_id = usable_padding_id(tokenizer, getattr(config, "vocab_size", math.inf))
    # Some models number positions from the padding id: a row is to fit with the base's id and with the tokenizer's
    max_length = _max_length(recipe.data.max_length, min(longest, longest_sequence(config, tokenizer)))
    fit_attention(config, kind, recipe.train, max_length)
    return Base(config, tokenizer, max_length, kind)


def fit_config(config: PretrainedConfig, model: Model, kind: ModelKind, label_names: list[str] | None) -> None:
    """Set label names, number of outputs and dropout in a configuration, in place."""
    if label_names is None and kind.trains_head:
        config.num_labels = 1
        config.problem_type = "regression"
    elif label_names is not None:
        config.id2label = dict(enumerate(label_names))
        config.label2id = {name: index for index, name in enumerate(label_names)}
        config.problem_type = "single_label_classification"
    if model.dropout is not None:
        _set_dropout(config, model.dropout)
    if model.classifier_dropout is not None:
        own_name = architecture_of(config.model_type).head_dropout
        if own_name is None and _USUAL_HEAD_DROPOUT not in config.to_dict():
            raise UserError(
                "unsupported-model", f"model.classifier_dropout: a {config.model_type} model has no dropout in its head"
            )
        setattr(config, own_name or _USUAL_HEAD_DROPOUT, model.classifier_dropout)


def _set_dropout(config: PretrainedConfig, share: float) -> None:
    """Prepare a configuration: set every dropout probability to `share`, except layer dropout."""
    for key, value in config.to_dict().items():
        if "drop" in key and "layerdrop" not in key and (value is None or isinstance(value, float | int)):
            setattr(config, key, share)


def without_dropout(config: PretrainedConfig) -> PretrainedConfig:
    """Prepare a copy of a configuration with every dropout but layer dropout set to 0."""
    config = copy.deepcopy(config)
    _set_dropout(config, 0.0)
    return config


def usable_padding_id(tokenizer: PreTrainedTokenizerBase, vocabulary: float) -> int:
    """Prepare the padding of the base: the id for batches; a token without an embedding is removed from the tokenizer.

    Args:
        vocabulary: the number of embeddings of the model.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= vocabulary:
        tokenizer.pad_token = None
    return padding_id(tokenizer)


def _max_length(wanted: int | None, most: int) -> int:
    """The maximum length of the prepared base in tokens: the recipe's, or else the longest sequence."""
    if wanted is not None and wanted > most:
        raise UserError("too-long", f"data.max_length is {wanted}, but this base supports at most {most} tokens")
    return wanted or most


def uses_bf16(settings: Train) -> bool:
    """Whether the prepared base computes in bfloat16 autocast, in training and in inference."""
    if settings.bf16 == "auto":
        return prefers_bf16(chosen_device())
    return settings.bf16


def fit_attention(config: PretrainedConfig, kind: ModelKind, settings: Train, max_length: int) -> None:
    """Prepare the attention: plain for a head over short texts in bfloat16 on a CPU.

    The backward pass of torch's fused kernel is up to seven times slower there (32 rows of 24 tokens: 23 ms against 3),
    which is a third of a training step.
    """
    short = max_length <= _PLAIN_ATTENTION_UP_TO
    if kind.trains_head and short and uses_bf16(settings) and not has_accelerator():
        config._attn_implementation = "eager"
