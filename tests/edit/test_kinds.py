"""Kinds of model: which class loads them, what their adapters are called, and whether a head trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertPreTrainedModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from red_cli import RedConfig, attach, load_adapter, save_adapter
from red_cli.edit.attached_adapters import count
from red_cli.edit.model_kinds import (
    DECODER,
    ENCODER_DECODER,
    NO_TASK,
    SEQUENCE_CLASSIFIER,
    kind_of,
    language_model_kind,
    task_type,
)
from red_cli.edit.trained_head import head_parameter_names
from red_cli.errors import UserError
from tests.tiny import DECODERS, ENCODERS, SEQ2SEQ, random_vectors, tiny_config, tiny_model

KINDS = {
    **dict.fromkeys(ENCODERS, SEQUENCE_CLASSIFIER),
    **dict.fromkeys(DECODERS, DECODER),
    **dict.fromkeys(SEQ2SEQ, ENCODER_DECODER),
}


@pytest.mark.parametrize(("model_type", "kind"), KINDS.items(), ids=KINDS.keys())
def test_kind_task_type_and_head(model_type: str, kind, tmp_path: Path) -> None:
    model = tiny_model(model_type)
    assert kind_of(model) is kind
    head = head_parameter_names(model)
    assert bool(head) == (kind is SEQUENCE_CLASSIFIER)
    attach(model, RedConfig(positions=["ffn"]))
    random_vectors(model)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        name for name, _ in model.named_parameters() if ".red." in name or name in head
    }
    save_adapter(model, tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert written["task_type"] == kind.task_type
    assert written["head"] == head
    again = tiny_model(model_type)
    load_adapter(again, tmp_path)
    assert count(again) == count(model)


@pytest.mark.parametrize("model_type", [*DECODERS, *SEQ2SEQ])
def test_language_models_by_their_configuration(model_type: str) -> None:
    assert language_model_kind(tiny_config(model_type)) is KINDS[model_type]


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "electra", "distilbert", "modernbert"])
def test_encoders_write_no_text(model_type: str) -> None:
    with pytest.raises(UserError, match=model_type) as caught:
        language_model_kind(tiny_config(model_type))
    assert caught.value.code == "unsupported-model"


class OwnClassifier(BertForSequenceClassification):
    pass


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnWriter(LlamaForCausalLM):
    config_class = OwnConfig


class OwnTagger(BertForTokenClassification):
    pass


class OwnChoice(BertForMultipleChoice):
    pass


class OwnHead(BertPreTrainedModel):
    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert, self.decide = BertModel(config), nn.Linear(config.hidden_size, 2)


OWN = {
    OwnClassifier: ("SEQ_CLS", NO_TASK),
    OwnWriter: ("CAUSAL_LM", "CAUSAL_LM"),
    OwnTagger: ("TOKEN_CLS", NO_TASK),
    OwnChoice: (NO_TASK, NO_TASK),
    OwnHead: ("SEQ_CLS", NO_TASK),
}


@pytest.mark.parametrize(("own", "expected"), OWN.items())
def test_task_types_of_classes_of_ones_own(own: type[PreTrainedModel], expected: tuple[str, str]) -> None:
    sizes = tiny_config("llama" if own is OwnWriter else "bert").to_dict()
    model = own(own.config_class(**{key: value for key, value in sizes.items() if key != "model_type"}))
    assert (task_type(model, trained_head=True), task_type(model, trained_head=False)) == expected
    assert bool(head_parameter_names(model)) == (own is not OwnWriter)


def test_a_head_without_a_name_of_its_own() -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config("gpt2"))
    assert kind_of(model) is SEQUENCE_CLASSIFIER
    assert head_parameter_names(model) == ["score.weight"]
