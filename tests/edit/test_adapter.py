"""Adapter files: strict loading, small size, faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from red_cli import RedConfig, attach, detach, load_adapter, save_adapter
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE
from red_cli.edit.attached_adapters import attachment, edits
from red_cli.errors import UserError
from tests.tiny import random_vectors, tiny_model

_VECTOR = "base_model.model.bert.encoder.layer.1.output.dense.red.scale"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT's adapter with its head."""
    model = tiny_model("bert")
    attach(model, RedConfig())
    random_vectors(model)
    save_adapter(model, tmp_path / "adapter")
    return tmp_path / "adapter"


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS_FILE)
        change(tensors)
        save_file(tensors, folder / WEIGHTS_FILE)

    return damage


def change_config(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / CONFIG_FILE).read_text())
        (folder / CONFIG_FILE).write_text(json.dumps({**config, **changes}))

    return damage


def truncate(folder: Path) -> None:
    file = folder / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:-100])


def flip_header(folder: Path) -> None:
    file = folder / WEIGHTS_FILE
    content = bytearray(file.read_bytes())
    content[3] ^= 0xFF
    file.write_bytes(content)


def flip_bit_of_a_value(folder: Path) -> None:
    file = folder / WEIGHTS_FILE
    content = bytearray(file.read_bytes())
    content[-2] ^= 0x01
    file.write_bytes(content)


FAULTS = {
    "bit flip in a value": (flip_bit_of_a_value, "file-damaged", "digest"),
    "key missing": (change_tensors(lambda tensors: tensors.pop(_VECTOR)), "file-damaged", f"missing: {_VECTOR}"),
    "key extra": (
        change_tensors(lambda tensors: tensors.update(more=torch.ones(1))), "file-damaged", "unexpected: more"
    ),
    "shape": (change_tensors(lambda tensors: tensors.update({_VECTOR: torch.ones(7)})), "file-damaged", "(7,)"),
    "not finite": (
        change_tensors(lambda tensors: tensors[_VECTOR].fill_(float("nan"))), "file-damaged", f"{_VECTOR} holds"
    ),
    "half precision": (
        change_tensors(lambda tensors: tensors.update({_VECTOR: tensors[_VECTOR].half()})), "file-damaged", "float16"
    ),
    "truncated": (truncate, "file-damaged", WEIGHTS_FILE),
    "bit flip": (flip_header, "file-damaged", WEIGHTS_FILE),
    "no weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "file-damaged", WEIGHTS_FILE),
    "no configuration": (lambda folder: (folder / CONFIG_FILE).unlink(), "not-an-adapter", CONFIG_FILE),
    "not JSON": (lambda folder: (folder / CONFIG_FILE).write_text("{"), "invalid-json", f"{CONFIG_FILE}, line 1"),
    "another method": (change_config(peft_type="LORA"), "not-an-adapter", "'LORA'"),
    "unknown key": (change_config(colour="red"), "file-damaged", "'colour'"),
    "other modules": (
        change_config(target_modules=["bert.pooler.dense"]), "base-mismatch", "bert.encoder.layer.0.output.dense"
    ),
    "unknown head": (change_config(head=["bert.no.such"]), "base-mismatch", "bert.no.such"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_reported_and_leaves_the_model_as_it_was(
    folder: Path, damage: Callable[[Path], None], code: str, fact: str
) -> None:
    damage(folder)
    model = tiny_model("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_adapter(model, folder)
    assert error.value.code == code
    assert fact in str(error.value)
    assert attachment(model) is None
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "other", [tiny_model("electra"), tiny_model("bert", vocab_size=99), tiny_model("bert", num_hidden_layers=2)]
)
def test_another_base_is_refused(folder: Path, other: torch.nn.Module) -> None:
    with pytest.raises(UserError) as caught:
        load_adapter(other, folder)
    assert caught.value.code == "base-mismatch"


def test_only_the_vectors_of_roberta_base_take_less_than_100_kb(tmp_path: Path) -> None:
    config = AutoConfig.for_model("roberta", vocab_size=100)  # the family's default sizes are roberta-base's
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    attach(model, RedConfig(), train_head=False)
    for _, edit in edits(model):
        edit.to_empty(device="cpu")
    save_adapter(model, tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 18_432 * 4 < size < 100_000


def test_attaching_twice_and_detaching_nothing_are_refused() -> None:
    model = tiny_model("bert")
    with pytest.raises(UserError) as no_edits:
        detach(model)
    attach(model, RedConfig())
    with pytest.raises(UserError, match="default") as twice:
        attach(model, RedConfig())
    assert no_edits.value.code == twice.value.code == "invalid-adapter-name"


CONFIG_FAULTS = {
    "layer": ({"layers": [7]}, "layers 0 to 2"),
    "range": ({"layers": "9:"}, "layers 0 to 2"),
    "pattern": ({"target_modules": "nothing"}, "output"),
    "position": ({"positions": ["qkv"]}, "ffn, attn, query, key, value, ffn_norm, attn_norm"),
    "tuple": ({"target_modules": r".*\.attention"}, "(BertAttention)"),
    "no width": ({"target_modules": r".*dropout"}, "(Dropout)"),
}


@pytest.mark.parametrize(("options", "expected"), CONFIG_FAULTS.values(), ids=CONFIG_FAULTS.keys())
def test_a_configuration_that_fits_nothing_changes_nothing(options: dict, expected: str) -> None:
    model = tiny_model("bert")
    with pytest.raises(UserError) as error:
        attach(model, RedConfig(**options))
    assert error.value.code == "unsupported-model"
    assert expected in str(error.value)
    assert attachment(model) is None
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_an_unknown_architecture_lists_what_looks_like_ffn_outputs() -> None:
    config = AutoConfig.for_model(
        "albert", hidden_size=32, embedding_size=16, num_attention_heads=4, intermediate_size=64, vocab_size=99
    )
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(UserError) as error:
        attach(model, RedConfig())
    assert error.value.code == "unsupported-model"
    assert "'albert'" in error.value.message
    assert "red.target_modules" in str(error.value)
    pattern = next(line.strip() for line in str(error.value).splitlines() if "ffn_output" in line)
    assert len(attach(model, RedConfig(target_modules=pattern))) == 1
