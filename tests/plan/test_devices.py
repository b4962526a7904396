"""`red check` estimates memory and traffic of Llama 2 from its configurations, without weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import make_language_model

# arXiv 2307.09288: layers, width, FFN width, heads, key-value heads; parameters in all
LLAMA_2 = {
    "7b": (32, 4096, 11008, 32, 32, 6_738_415_616),
    "13b": (40, 5120, 13824, 40, 40, 13_015_864_320),
    "70b": (80, 8192, 28672, 64, 8, 68_976_648_192),
}
# size, GiB of each device -> the strategy on 1, 2, 4 and 8 of them
EXPECTED = {
    ("7b", 24): ["single", "ddp", "ddp", "ddp"],
    ("13b", 24): ["zero3 with offload", "zero3", "zero3", "zero3"],
    ("70b", 80): ["zero3 with offload", "zero3", "zero3", "zero3"],
    ("70b", 36): ["zero3 with offload", "zero3 with offload", "zero3 with offload", "zero3"],
}


@pytest.fixture
def llama(tmp_path: Path):
    """A recipe for a Llama 2 of some size, with only a configuration and a tokenizer."""

    def recipe(size: str) -> Path:
        layers, width, inner, heads, key_value_heads, _ = LLAMA_2[size]
        folder = make_language_model(tmp_path / size, "llama")
        config = json.loads((folder / "config.json").read_text())
        config |= {
            "vocab_size": 32000, "num_hidden_layers": layers, "hidden_size": width, "intermediate_size": inner,
            "num_attention_heads": heads, "num_key_value_heads": key_value_heads, "head_dim": width // heads,
            "max_position_embeddings": 4096, "tie_word_embeddings": False,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").unlink()
        rows = "\n".join(json.dumps({"prompt": "the film", "completion": " was good"}) for _ in range(8))
        (tmp_path / "rows.jsonl").write_text(rows)
        path = tmp_path / f"{size}.yaml"
        path.write_text(
            f"""
task: {{name: generation}}
model: {{name_or_path: {folder}, dtype: bfloat16}}
data: {{train: rows.jsonl, validation: rows.jsonl}}
train: {{batch_size: 8, micro_batch_size: 1}}
"""
        )
        return path

    return recipe


@pytest.mark.parametrize(("size", "gib"), EXPECTED)
def test_which_strategy_fits(red, llama, size: str, gib: int) -> None:
    outcome = red("check", llama(size), "--device-memory", gib, "--json")
    assert outcome.code == 0, outcome.err
    result = outcome.json
    layers, width, *_, parameters = LLAMA_2[size]
    counts = result["plan"]["counts"]
    assert counts["base"] == parameters
    vectors = 2 * 4 * layers * 2 * width  # reduce and broadcast, float32, scale and bias of each layer's FFN
    devices = result["devices"]
    assert [fit["devices"] for fit in devices] == [1, 2, 4, 8]
    assert [fit["strategy"] for fit in devices] == EXPECTED[size, gib]
    for fit in devices:
        assert fit["memory"] <= 0.9 * gib * 2**30
        if fit["strategy"] == "single":
            assert fit["sent"] == 0
            assert fit["memory"] > 2 * parameters
        elif fit["strategy"] == "ddp":
            assert fit["sent"] == vectors
        elif fit["strategy"] == "zero3":
            passes = 8 // fit["devices"]
            assert fit["sent"] == vectors + passes * 2 * 2 * parameters
            assert fit["memory"] > 2 * parameters / fit["devices"]


def test_what_does_not_fit_is_shown(red, llama) -> None:
    outcome = red("check", llama("7b"), "--device-memory", 0.5)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("does not fit") == 4


@pytest.mark.parametrize("gib", ["inf", "nan", "1e400", "-1"])
def test_an_invalid_amount_of_memory(red, llama, gib: str) -> None:
    outcome = red("check", llama("7b"), "--device-memory", gib)
    assert outcome.code == 2
    assert "--device-memory" in outcome.err
