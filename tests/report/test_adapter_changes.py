"""The changes of an adapter's vectors: sizes, kinds of modules, layers; damaged adapters."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from red_cli import RedConfig, attach, save_adapter
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE
from red_cli.edit.attached_adapters import edits
from red_cli.errors import UserError
from red_cli.report.adapter_changes import AdapterChanges, read_adapter_changes
from red_cli.report.change_sections import bars, change_rows
from red_cli.report.module_paths import kind_labels, parse_module_path
from tests.tiny import LAYERS, WIDTH, tiny_model

PLUS_PLUS = ["ffn", "attn", "query", "key", "value"]


def adapter(folder: Path, model_type: str = "bert", **red: object) -> Path:
    """An adapter in which module number n (from 1) has scale - 1 = n / 10, and a bias of -n at two values only."""
    model = tiny_model(model_type)
    attach(model, RedConfig(**red))
    with torch.no_grad():
        for number, (_, edit) in enumerate(edits(model), start=1):
            for name, vector in edit.named_parameters():
                if name == "scale":
                    vector.fill_(1 + number / 10)
                else:
                    vector[:2] = -number
    save_adapter(model, folder)
    return folder


def test_sizes_are_as_by_hand(tmp_path: Path) -> None:
    changes = read_adapter_changes(adapter(tmp_path))
    assert [module.layer for module in changes.modules] == [0, 1, 2]
    for number, module in enumerate(changes.modules, start=1):
        scale, bias = module.changes["scale"], module.changes["bias"]
        assert scale.rms == pytest.approx(number / 10, rel=1e-5)
        assert scale.norm == pytest.approx(number / 10 * math.sqrt(WIDTH), rel=1e-5)
        assert scale.largest == pytest.approx(number / 10, rel=1e-5)
        assert bias.rms == pytest.approx(number * math.sqrt(2 / WIDTH))
        assert bias.norm == pytest.approx(number * math.sqrt(2))
        assert bias.largest == number
        assert module.width == WIDTH
    assert [module.name for module in changes.most_changed("bias", 2)] == ["ffn 2", "ffn 1"]
    assert changes.grid("scale") == [[pytest.approx(number / 10, rel=1e-5) for number in (1, 2, 3)]]


# name -> (model type, red section, rows of the heat map, columns)
LAYOUTS: dict[str, tuple[str, dict[str, object], list[str], list[int | None]]] = {
    "scale alone": ("bert", {"components": ["scale"]}, ["ffn"], [0, 1, 2]),
    "bias alone": ("bert", {"components": ["bias"]}, ["ffn"], [0, 1, 2]),
    "one layer": ("bert", {"layers": [1]}, ["ffn"], [0, 1, 2]),
    "RED++": ("roberta", {"positions": PLUS_PLUS}, ["query", "key", "value", "attn", "ffn"], [0, 1, 2]),
    "fused": ("gpt2", {"positions": ["ffn", "attn", "qkv"]}, ["qkv", "attn", "ffn"], [0, 1, 2]),
    "norms": ("bert", {"positions": ["ffn_norm", "attn_norm"]}, ["attn_norm", "ffn_norm"], [0, 1, 2]),
    "a pattern for a known position": ("bert", {"target_modules": r".*\d\.output\.dense"}, ["ffn"], [0, 1, 2]),
    "a pattern for anything else": (
        "bert", {"target_modules": r".*\.intermediate\.dense"}, ["intermediate.dense"], [0, 1, 2],
    ),
    "no layer in the path": ("bert", {"target_modules": r".*pooler\.dense"}, ["bert.pooler.dense"], [None]),
    "some with a layer, some without": (
        "bert", {"target_modules": r".*(pooler\.dense|2\.output\.dense)"}, ["ffn", "bert.pooler.dense"],
        [0, 1, 2, None],
    ),
    "encoder and decoder": ("t5", {}, ["encoder ffn", "decoder ffn"], [0, 1, 2]),
    "self- and cross-attention": (
        "bart", {"positions": ["attn", "ffn"]},
        ["encoder self_attn attn", "encoder ffn", "decoder self_attn attn", "decoder encoder_attn attn", "decoder ffn"],
        [0, 1, 2],
    ),
    "T5's attentions": (
        "t5", {"positions": ["query"]},
        ["encoder SelfAttention query", "decoder SelfAttention query", "decoder EncDecAttention query"], [0, 1, 2],
    ),
    "text and picture": ("clip", {"target_modules": r".*mlp\.fc2"}, ["text_model ffn", "vision_model ffn"], [0, 1, 2]),
}  # fmt: skip


@pytest.mark.parametrize(("model_type", "red", "rows", "columns"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_rows_and_columns(
    tmp_path: Path, model_type: str, red: dict[str, object], rows: list[str], columns: list[int | None]
) -> None:
    changes = read_adapter_changes(adapter(tmp_path, model_type, **red))
    assert sorted(changes.labels) == sorted(rows)
    assert changes.layers == columns
    assert changes.components == red.get("components", ["scale", "bias"])
    for component in changes.components:
        shown = [value for row in changes.grid(component) for value in row if value is not None]
        assert sorted(shown) == sorted(module.changes[component].rms for module in changes.modules)
    assert len({(module.label, module.layer) for module in changes.modules}) == len(changes.modules)


def test_stacks_are_adjacent_in_the_models_order(tmp_path: Path) -> None:
    changes = read_adapter_changes(adapter(tmp_path, "bart", positions=["attn", "ffn"]))
    assert [label.split()[0] for label in changes.labels] == ["encoder"] * 2 + ["decoder"] * 3
    assert len(set(changes.stacks)) == 2
    assert changes.stacks == sorted(changes.stacks, reverse=True)  # model.encoder.layers, model.decoder.layers


def test_layers_that_are_not_edited_are_empty(tmp_path: Path) -> None:
    changes = read_adapter_changes(adapter(tmp_path, layers=[1]))
    assert [value is None for value in changes.grid("scale")[0]] == [True, False, True]


def test_a_deeper_number_is_not_a_layer() -> None:
    names = [f"layers.{layer}.mlp.experts.{expert}.down_proj" for layer in (0, 1) for expert in (0, 7)]
    paths = [parse_module_path(name, "x") for name in names]
    assert [path.layer for path in paths] == [0, 0, 1, 1]
    assert set(kind_labels(paths).values()) == {"mlp.experts.0.down_proj", "mlp.experts.7.down_proj"}
    assert parse_module_path("blocks.4", "x").layer == 4
    assert kind_labels([parse_module_path("blocks.4", "x")]) == {"blocks.*": "blocks.*"}


def rewrite(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS_FILE)
        change(tensors)
        save_file(tensors, folder / WEIGHTS_FILE)

    return damage


def rename_module(folder: Path) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["target_modules"][0] = "bert.encoder.layer.9.output.dense"
    (folder / CONFIG_FILE).write_text(json.dumps(config))


# what is done to an adapter -> code of the error, a fact in its message
DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated": (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"1234"), "file-damaged", WEIGHTS_FILE),
    "no weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "file-damaged", WEIGHTS_FILE),
    "not finite": (rewrite(lambda tensors: next(iter(tensors.values())).fill_(math.nan)), "file-damaged", "red."),
    "another value": (rewrite(lambda tensors: next(iter(tensors.values())).add_(1)), "file-damaged", "digest"),
    "a vector of a module that is not there": (rename_module, "file-damaged", "layer.9.output.dense"),
    "not RED's": (lambda folder: (folder / CONFIG_FILE).write_text('{"peft_type": "LORA"}'), "not-an-adapter", "LORA"),
}


@pytest.mark.parametrize(("damage", "code", "fact"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_adapter(tmp_path: Path, damage: Callable[[Path], object], code: str, fact: str) -> None:
    damage(adapter(tmp_path))
    with pytest.raises(UserError) as caught:
        read_adapter_changes(tmp_path)
    assert caught.value.code == code
    assert fact in caught.value.message


def test_bars_share_the_height_of_the_highest() -> None:
    assert bars([0.0, 0.5, None, 1.0], 1.0, room=10) == "▁▅·█"
    assert bars([0.0, 1.0, 0.1, 0.2], 1.0, room=2) == "█▂"
    assert bars([0.0, 0.0], 0.0, room=2) == "▁▁"


@pytest.mark.parametrize("model_type", ["bert", "t5", "bart"])
def test_a_terminal_shows_it_in_80_columns(tmp_path: Path, model_type: str) -> None:
    changes: AdapterChanges = read_adapter_changes(adapter(tmp_path, model_type, positions=PLUS_PLUS))
    rows = change_rows(changes)
    assert len(rows) <= 16
    assert max(14 + len(text) for _, text in rows) <= 80
    assert len(changes.layers) == LAYERS
    assert [text.split(":")[0] for _, text in rows[-2:]] == ["scale − 1", "bias"]


def test_an_unchanged_vector_is_reported(tmp_path: Path) -> None:
    model = tiny_model("bert")
    attach(model, RedConfig())
    save_adapter(model, tmp_path)
    assert "nothing" in change_rows(read_adapter_changes(tmp_path))[-1][1]
