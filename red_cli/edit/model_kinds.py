"""The kinds of model that can be fine-tuned: their classes, task types in adapter files, and heads."""

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
        name: its name in messages.
        auto_class: the transformers class that loads it.
        class_names: model_type -> the model class that `auto_class` creates.
        task_type: its name in adapter files (PEFT's names).
        trains_head: whether the parameters outside `base_model` are new for the task and train with the edits.
        encoder_decoder: whether an encoder reads the prompt and a decoder writes the answer.
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
NO_TASK = "FEATURE_EXTRACTION"  # the task type of any other model, and of a classifier without a trained head
# The ends of the names of classes whose head trains -> their task types in adapter files
HEAD_TASK_TYPES = {
    "ForSequenceClassification": SEQUENCE_CLASSIFIER.task_type,
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


def language_model_kind(config: PretrainedConfig) -> ModelKind:
    """The kind of language model for a configuration.

    Raises:
        UserError: the configuration is that of an encoder, which writes no text.
    """
    if config.is_encoder_decoder:
        return ENCODER_DECODER
    # Encoders have a causal class too, but in it every token attends to those that it should predict.
    encoder = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if encoder and not getattr(config, "is_decoder", False):
        raise UserError(
            "unsupported-model",
            f"{config.model_type} is an encoder, which writes no text",
            hint="Use a decoder (GPT-2, LLaMA, …) or an encoder-decoder (T5, BART, …) as base.",
        )
    return DECODER


def kind_of(model: PreTrainedModel) -> ModelKind | None:
    """The kind of a model by its class or one that it extends; None for any other, such as a bare encoder."""
    for known in type(model).__mro__:
        model_types = (model.config.model_type, getattr(getattr(known, "config_class", None), "model_type", ""))
        for kind in KINDS:
            if known.__name__ in [kind.class_names.get(model_type) for model_type in model_types]:
                return kind
    return None


def task_type(model: PreTrainedModel, trained_head: bool) -> str:
    """The task type in the adapter file of a model, by its class and whether its head was trained."""
    kind = kind_of(model)
    if kind is not None and (trained_head or not kind.trains_head):
        return kind.task_type
    if not trained_head:
        return NO_TASK
    classes = type(model).__mro__
    for known in classes:
        for end, other in HEAD_TASK_TYPES.items():
            if known.__name__.endswith(end):
                return other
    # a head of a class of the user's own labels texts, unless that class extends another head of transformers
    theirs = [known.__name__ for known in classes if known.__module__.startswith("transformers.")]
    own = not classes[0].__module__.startswith("transformers.") and not any("For" in name for name in theirs)
    return SEQUENCE_CLASSIFIER.task_type if own else NO_TASK


def own_label_names(config: PretrainedConfig) -> list[str] | None:
    """The labels of a kind of model by its own names, in the order of ids; None for LABEL_0, LABEL_1, …."""
    names = [str(name) for _, name in sorted(config.id2label.items())]
    return None if names == [f"LABEL_{index}" for index in range(len(names))] else names
