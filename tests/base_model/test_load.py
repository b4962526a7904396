"""The configuration of a base is adapted to the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from red_cli.base_model.load import load_config, load_skeleton
from red_cli.base_model.prepare import fit_config
from red_cli.edit.model_kinds import SEQUENCE_CLASSIFIER
from red_cli.errors import UserError
from red_cli.recipe.sections import Model
from tests.tiny import ENCODERS, tiny_config


@pytest.mark.parametrize("model_type", ENCODERS)
def test_the_heads_dropout_is_set_alone(tmp_path: Path, model_type: str) -> None:
    tiny_config(model_type).save_pretrained(tmp_path)
    model = Model(name_or_path=str(tmp_path), dropout=0.25, classifier_dropout=0.5)
    config = load_config(model)
    fit_config(config, model, SEQUENCE_CLASSIFIER, ["no", "yes"])
    built = load_skeleton(config, model, SEQUENCE_CLASSIFIER)
    body = built.base_model_prefix
    rates = {path: module.p for path, module in built.named_modules() if isinstance(module, nn.Dropout)}
    assert {rate for path, rate in rates.items() if not path.startswith(f"{body}.")} >= {0.5}
    assert {rate for path, rate in rates.items() if path.startswith(f"{body}.")} <= {0.25}


def test_a_head_without_dropout_is_refused(tmp_path: Path) -> None:
    tiny_config("gpt2").save_pretrained(tmp_path)
    model = Model(name_or_path=str(tmp_path), classifier_dropout=0.5)
    with pytest.raises(UserError) as caught:
        fit_config(load_config(model), model, SEQUENCE_CLASSIFIER, ["no", "yes"])
    assert caught.value.code == "unsupported-model"
    assert caught.value.message.startswith("model.classifier_dropout: ")
