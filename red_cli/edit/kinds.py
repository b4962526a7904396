"""The kinds of model that are fine-tuned: the one table of their classes, adapter names and heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto import modeling_auto

from red_cli.errors import UserError


@dataclass(frozen=True)
class ModelKind:
    """A kind of model.

    Attributes:
        name: as messages call it.
        auto_class: the class of transformers that loads it.
        class_names: model_type -> the class that `auto_class` makes.
        task_type: its name in adapter files (PEFT's names).
        trains_head: whether what lies outside the base model proper is made for the task and trains beside the edits.
        encoder_decoder: whether a prompt goes to an encoder, and the answer to a decoder.
    """

    name: str
    auto_class: Any
    class_names: Mapping[str, str]
    task_type: str
    trains_head: bool = False
    encoder_decoder: bool = False


SEQUENCE_CLASSIFIER = ModelKind(
    "sequence classifier",
    AutoModelForSequenceClassification,
    modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    task_type="SEQ_CLS",
    trains_head=True,
)
DECODER = ModelKind(
    "decoder-only language model",
    AutoModelForCausalLM,
    modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    task_type="CAUSAL_LM",
)
ENCODER_DECODER = ModelKind(
    "encoder-decoder",
    AutoModelForSeq2SeqLM,
    modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    task_type="SEQ_2_SEQ_LM",
    encoder_decoder=True,
)
KINDS = (SEQUENCE_CLASSIFIER, DECODER, ENCODER_DECODER)


def language_model_kind(config: PretrainedConfig) -> ModelKind:
    """The kind of language model that a configuration makes.

    Raises:
        UserError: it is an encoder's, which writes no text.
    """
    if config.is_encoder_decoder:
        return ENCODER_DECODER
    # Encoders have a decoder's class too, in which every token sees the ones that it is to predict.
    encoder = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if encoder and not getattr(config, "is_decoder", False):
        raise UserError(
            "unsupported-model",
            f"{config.model_type} is an encoder, which writes no text",
            hint="Take a decoder (GPT-2, LLaMA, …) or an encoder-decoder (T5, BART, …) as base.",
        )
    return DECODER


def kind_of(model: PreTrainedModel) -> ModelKind | None:
    """The kind of a model that is there, by its class; None for any other, such as a bare encoder."""
    model_type, name = model.config.model_type, type(model).__name__
    return next((kind for kind in KINDS if kind.class_names.get(model_type) == name), None)


def own_label_names(config: PretrainedConfig) -> list[str] | None:
    """The label names that a configuration was given, in the order of their ids; None where they are only numbered."""
    names = [str(name) for _, name in sorted(config.id2label.items())]
    return None if names == [f"LABEL_{index}" for index in range(len(names))] else names
