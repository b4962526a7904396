"""Decoders classify with a head on their last token, whichever side is padded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from red_cli.base_model.load import load_base
from red_cli.edit.model_kinds import SEQUENCE_CLASSIFIER
from red_cli.plan.prepare import prepare
from red_cli.recipe.load import load_recipe
from tests.tiny import make_language_model, read_lines

BASES = ["gpt2", "llama", "opt", "qwen2", "bloom"]


def without_padding_token(base: Path) -> Path:
    """Remove the padding token from tokenizer and configuration, as in GPT-2's own files."""
    for name, keys in {"tokenizer_config.json": ("pad_token",), "config.json": ("pad_token_id",)}.items():
        content = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps({key: value for key, value in content.items() if key not in keys}))
    return base


@pytest.mark.parametrize("padding", ["own padding", "no padding"])
@pytest.mark.parametrize("model_type", BASES)
def test_a_batch_answers_as_each_row_alone(recipe: Path, tmp_path: Path, model_type: str, padding: str) -> None:
    base = make_language_model(tmp_path / "base", model_type)
    if padding == "no padding":
        without_padding_token(base)
    loaded = load_recipe(str(recipe), overrides=[f"model.name_or_path={base}"]).recipe
    prepared = prepare(loaded)
    model, head = load_base(loaded.model, prepared.base.config, SEQUENCE_CLASSIFIER, seed=0)
    model.eval()
    assert head == ["score.weight"]
    encoded = prepared.encoded["train"]
    batch = prepared.encoder.collate(encoded, np.arange(12))
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert len(set(mask.sum(1).tolist())) > 3
    with torch.inference_mode():
        alone = torch.cat([model(ids[row : row + 1, : mask[row].sum()]).logits for row in range(12)])
        torch.testing.assert_close(model(**batch.inputs).logits, alone, atol=1e-5, rtol=1e-5)
        left = {"input_ids": ids.clone(), "attention_mask": mask.flip(1)}
        for row, length in enumerate(mask.sum(1).tolist()):
            left["input_ids"][row] = ids[row].roll(ids.shape[1] - length)
        if model_type != "opt" and model_type != "bloom":  # these read positions from the mask
            left["position_ids"] = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
        torch.testing.assert_close(model(**left).logits, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("model_type", "padding"), [("gpt2", "no padding"), ("llama", "own padding")])
def test_train_eval_and_export(red, recipe: Path, tmp_path: Path, model_type: str, padding: str) -> None:
    base = make_language_model(tmp_path / "base", model_type, tie_word_embeddings=True)
    if padding == "no padding":
        without_padding_token(base)
    options = [f"model.name_or_path={base}", "train.learning_rate=2e-2", "train.num_train_epochs=4"]
    trained = red("train", recipe, *options, "--json")
    assert trained.code == 0, trained.err
    losses = [line["loss"] for line in read_lines(tmp_path / "run" / "log.jsonl") if "loss" in line]
    assert sum(losses[-6:]) < sum(losses[:6])
    assert json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())["task_type"] == "SEQ_CLS"
    evaluated = red("eval", tmp_path / "run", "--json").json
    exported = red("export", tmp_path / "run", "-o", tmp_path / "merged", "--json")
    assert exported.json["largest_difference"] < 1e-4, exported.err
    assert red("eval", tmp_path / "merged", "--json").json["scores"] == evaluated["scores"]


def test_padding_of_the_tokenizer_does_not_matter(tmp_path: Path, recipe: Path) -> None:
    """The encoder pads batches; the padding side of the tokenizer has no effect."""
    base = make_language_model(tmp_path / "base", "gpt2")
    batches = []
    for side in ("right", "left"):
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.padding_side = side
        tokenizer.save_pretrained(base)
        prepared = prepare(load_recipe(str(recipe), overrides=[f"model.name_or_path={base}"]).recipe)
        batches.append(prepared.encoder.collate(prepared.encoded["train"], np.arange(8)).inputs)
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])
