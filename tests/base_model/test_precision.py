"""The dtype and the quantisation of the base; the vectors stay float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from red_cli import RedConfig, attach, fold, load_adapter, save_adapter
from red_cli.base_model.load import load_base, load_config
from red_cli.base_model.prepare import fit_attention
from red_cli.edit.attached_adapters import count, edits
from red_cli.edit.model_kinds import SEQUENCE_CLASSIFIER
from red_cli.errors import UserError
from red_cli.recipe.schema import Train
from red_cli.recipe.sections import Model
from tests.tiny import first_output, make_base, random_vectors, tiny_inputs, tiny_model

LLAMA = {"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 4, "head_dim": 16}


def train_llama(model: torch.nn.Module, steps: int, rate: float) -> list[float]:
    """Losses of next-token training on one batch."""
    inputs = tiny_inputs("llama")
    optimizer = torch.optim.AdamW(
        [vector for vector in model.parameters() if vector.requires_grad], rate, weight_decay=0
    )
    losses = []
    for _ in range(steps):
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_scales_leave_one_in_every_layer_of_a_bfloat16_llama() -> None:
    """In bfloat16 they would not: a step of 1e-3 next to 1.0 is rounded away, as in the published code."""
    model = tiny_model("llama").to(torch.bfloat16)
    attach(model, RedConfig())
    losses = train_llama(model, steps=30, rate=1e-3)
    assert losses[-1] < losses[0]
    for path, vectors in edits(model):
        moved = (vectors.scale - 1).abs()
        assert vectors.scale.dtype == torch.float32
        assert moved.mean() > 5e-3, path
    assert torch.tensor(1 - 1e-3, dtype=torch.bfloat16) == 1


QUANTISED = {
    "int8": BitsAndBytesConfig(load_in_8bit=True),
    "nf4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32),
}


@pytest.mark.parametrize("quantization", QUANTISED)
def test_quantised_bases_train(tmp_path: Path, quantization: str) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quant")
    plain = tiny_model("llama", **LLAMA)
    plain.save_pretrained(tmp_path / "base")

    def load() -> torch.nn.Module:
        quantised = QUANTISED[quantization]
        model = AutoModelForCausalLM.from_pretrained(
            tmp_path / "base", quantization_config=quantised, dtype=torch.float32
        )
        return model.train()  # LLaMA has no dropout; in evaluation bitsandbytes repacks weights and computes otherwise

    model = load()
    before = first_output(model, tiny_inputs("llama"))
    attach(model, RedConfig())
    assert torch.equal(first_output(model, tiny_inputs("llama")), before)
    assert count(model).edited == 2 * 64 * 3
    assert count(model).base == sum(parameter.numel() for parameter in plain.parameters())
    losses = train_llama(model, steps=15, rate=1e-2)
    assert losses[-1] < losses[0]
    with pytest.raises(UserError) as caught:
        fold(model)
    assert caught.value.code == "unsupported-model"
    random_vectors(model)
    save_adapter(model, tmp_path / "adapter")
    other = load()
    load_adapter(other, tmp_path / "adapter")
    inputs = tiny_inputs("llama")
    torch.testing.assert_close(first_output(other, inputs), first_output(model, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("quantization", QUANTISED)
def test_a_recipe_trains_a_quantised_base(red, recipe: Path, tmp_path: Path, quantization: str) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quant")
    base = make_base(tmp_path / "base", hidden_size=64, intermediate_size=128)
    options = [f"model.name_or_path={base}", f"model.quantization={quantization}"]
    outcome = red("train", recipe, *options, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["parameters"]["edited"] == 2 * 64 * 3
    scores = red("eval", tmp_path / "run", "--split", "validation", "--json").json["scores"]
    assert scores["accuracy"] == pytest.approx(outcome.json["splits"]["validation"]["accuracy"], abs=0.051)
    exported = red("export", tmp_path / "run", "--output", tmp_path / "merged", "--json")
    assert exported.code == 0, exported.err
    assert "folding into the unquantised" in exported.err
    assert exported.json["largest_difference"] < 1e-4


def test_quantisation_without_its_extra_is_named(red, recipe: Path, tmp_path: Path, monkeypatch) -> None:
    from red_cli.base_model import load as base_model

    monkeypatch.setattr(base_model.importlib.util, "find_spec", lambda name: None)
    outcome = red("train", recipe, "model.quantization=nf4", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "missing-dependency")
    assert "red-finetune[quant]" in outcome.err


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("max_length", [16, 1024])
def test_short_texts_in_bfloat16_take_plain_attention_on_a_cpu(base: Path, bf16: bool, max_length: int) -> None:
    model = Model(name_or_path=str(base))
    settings = Train(bf16=bf16, learning_rate=1e-2)
    config = load_config(model)
    fit_attention(config, SEQUENCE_CLASSIFIER, settings, max_length)
    loaded, _ = load_base(model, config, SEQUENCE_CLASSIFIER, seed=0)
    plain = bf16 and max_length == 16 and not torch.cuda.is_available()
    assert loaded.config._attn_implementation == ("eager" if plain else "sdpa")


def test_both_attention_implementations_agree(base: Path) -> None:
    model, outputs = Model(name_or_path=str(base)), {}
    inputs = {"input_ids": torch.arange(5, 17).view(2, 6), "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2])}
    for bf16 in (False, True):
        config = load_config(model)
        fit_attention(config, SEQUENCE_CLASSIFIER, Train(bf16=bf16, learning_rate=1e-2), 16)
        loaded, _ = load_base(model, config, SEQUENCE_CLASSIFIER, seed=0)
        outputs[bf16] = loaded.eval()(**inputs).logits
    assert torch.allclose(outputs[True], outputs[False], atol=1e-5)
