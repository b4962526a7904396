"""One row of the table adds an architecture, as CONTRIBUTING.md says; here, a made-up one."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from red_cli import RedConfig, attach, fold, load_adapter, save_adapter
from red_cli.base_model.prepare import fit_config
from red_cli.edit import model_kinds as kinds
from red_cli.edit.architectures import ARCHITECTURES, Architecture
from red_cli.recipe.sections import Model
from tests.conftest import write_recipe
from tests.tiny import LAYERS, VOCABULARY, WIDTH, first_output, make_base, random_vectors, tiny_inputs

NAME = "made_up"
ROW = Architecture(
    {"ffn": r"floors\.(\d+)\.down"},
    {r"down": "down_bias"},
    head_dropout="top_dropout",
)


class MadeUpConfig(PretrainedConfig):
    model_type = NAME

    def __init__(self, down_bias: bool = False, top_dropout: float = 0.0, **others: object) -> None:
        self.vocab_size, self.hidden_size, self.num_hidden_layers = len(VOCABULARY), WIDTH, LAYERS
        self.max_position_embeddings = 64
        self.down_bias, self.top_dropout = down_bias, top_dropout
        super().__init__(**{"pad_token_id": 0, **others})


class Floor(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.down(self.up(self.norm(hidden)).relu())


class MadeUpPreTrainedModel(PreTrainedModel):
    config_class = MadeUpConfig
    base_model_prefix = "body"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.2)


class MadeUpModel(MadeUpPreTrainedModel):
    def __init__(self, config: MadeUpConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, WIDTH)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, WIDTH, padding_idx=1)
        self.floors = nn.ModuleList(Floor(config.down_bias) for _ in range(config.num_hidden_layers))
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **others: object) -> BaseModelOutput:
        hidden = self.words(input_ids) + self.position_embeddings(torch.arange(2, 2 + input_ids.shape[1]))
        for floor in self.floors:
            hidden = floor(hidden)
        return BaseModelOutput(last_hidden_state=hidden)


class MadeUpForSequenceClassification(MadeUpPreTrainedModel):
    def __init__(self, config: MadeUpConfig) -> None:
        super().__init__(config)
        self.body, self.dropout = MadeUpModel(config), nn.Dropout(config.top_dropout)
        self.top = nn.Linear(WIDTH, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: object) -> SequenceClassifierOutput:
        hidden, mask = self.body(input_ids).last_hidden_state, attention_mask[..., None].float()
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return SequenceClassifierOutput(logits=self.top(self.dropout(mean)))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers knows the model, and the table has its row."""
    AutoConfig.register(NAME, MadeUpConfig, exist_ok=True)
    AutoModel.register(MadeUpConfig, MadeUpModel, exist_ok=True)
    AutoModelForSequenceClassification.register(MadeUpConfig, MadeUpForSequenceClassification, exist_ok=True)
    monkeypatch.setitem(kinds.SEQUENCE_CLASSIFIER.class_names, NAME, MadeUpForSequenceClassification.__name__)
    monkeypatch.setitem(ARCHITECTURES, NAME, ROW)


@torch.inference_mode()
def outputs(model: nn.Module) -> Tensor:
    return first_output(model, tiny_inputs())


@pytest.mark.usefixtures("made_up")
def test_edits_are_attached_saved_loaded_and_folded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MadeUpForSequenceClassification(MadeUpConfig()).eval()
    fresh, plain = copy.deepcopy(model), outputs(model)
    assert attach(model, RedConfig()) == [f"body.floors.{layer}.down" for layer in range(LAYERS)]
    assert torch.equal(outputs(model), plain)
    random_vectors(model)
    edited = outputs(model)
    save_adapter(model, tmp_path)
    load_adapter(fresh, tmp_path)
    assert torch.equal(outputs(fresh), edited)
    assert len(fold(model)) == LAYERS  # modules that gained a bias
    torch.testing.assert_close(outputs(model), edited, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("made_up")
def test_it_trains_and_becomes_an_ordinary_model(
    red, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeUpForSequenceClassification(MadeUpConfig()).save_pretrained(make_base(tmp_path / "base"))
    recipe = write_recipe(tmp_path, tmp_path / "base", data)
    planned = red("check", recipe, "--json").json["plan"]
    assert (planned["architecture"], planned["max_length"]) == (NAME, 62)
    assert planned["export_obstacle"] is None
    trained = red("train", recipe, "--json")
    assert trained.code == 0, trained.err
    assert trained.json["parameters"]["edited"] == LAYERS * 2 * WIDTH
    transformers, name = sys.modules["transformers"], MadeUpForSequenceClassification.__name__
    monkeypatch.setattr(transformers, name, MadeUpForSequenceClassification, raising=False)
    monkeypatch.setattr(transformers, "__all__", [*transformers.__all__, name])
    exported = red("export", tmp_path / "run", "-o", tmp_path / "merged", "--json")
    assert exported.code == 0, exported.err
    assert exported.json["equal_answers"] == 1
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["down_bias"] is True


@pytest.mark.usefixtures("made_up")
def test_the_dropout_of_its_head_is_set() -> None:
    config = MadeUpConfig()
    fit_config(config, Model(name_or_path="x", classifier_dropout=0.5), kinds.SEQUENCE_CLASSIFIER, ["no", "yes"])
    assert config.top_dropout == 0.5
