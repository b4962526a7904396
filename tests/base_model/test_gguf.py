"""GGUF files are refused as bases with the command that converts them; converted, they are ordinary bases."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from red_cli.export.gguf_model import write_gguf
from tests.extras import needs_extra

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["a file", "a folder of GGUF files", "a missing file", "a missing file in no folder"])
def test_a_gguf_base_is_refused_with_what_to_do(red, tmp_path: Path, recipe: Path, name: str) -> None:
    files = [tmp_path / "models" / f"model-{kind}.gguf" for kind in ("q4", "q8")]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(b"GGUF")
    named, code, fact = {
        "a file": (files[1], "unsupported-file", f"red convert {files[1]} --output {files[1].with_suffix('')}"),
        "a folder of GGUF files": (files[0].parent, "unsupported-file", f"red convert {files[0]}"),
        "a missing file": (tmp_path / "models" / "model.gguf", "base-not-found", str(files[0])),
        "a missing file in no folder": ("elsewhere/model.gguf", "base-not-found", "elsewhere/model.gguf"),
    }[name]
    for command in (("check", recipe), ("train", recipe)):
        outcome = red(*command, f"model.name_or_path={named}", "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, code)
        assert fact in outcome.json["error"]["message"] + (outcome.json["error"]["hint"] or "")


def test_without_the_package_the_extra_is_named(red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    outcome = red("convert", file, "--output", tmp_path / "base", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "missing-dependency")
    assert "red-finetune[gguf]" in outcome.json["error"]["hint"]


def test_a_checkpoint_needs_its_base_and_a_gguf_file_takes_none(red, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    for arguments in ((tmp_path,), (tmp_path / "model.gguf", "--base", tmp_path)):
        outcome = red("convert", *arguments, "--output", tmp_path / "out", "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, "invalid-option")


@pytest.fixture
def tiny_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A GGUF file of a tiny LLaMA in the folder `original`."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from ends import make_tiny_base

    write_gguf(make_tiny_base(tmp_path / "original"), tmp_path / "tiny.gguf", "tiny")
    return tmp_path / "tiny.gguf"


@needs_extra("gguf")
def test_a_converted_file_is_the_model_that_was_written(red, tmp_path: Path, tiny_gguf: Path) -> None:
    base, original = tmp_path / "base", tmp_path / "original"
    converted = red("convert", tiny_gguf, "--output", base, "--json")
    assert converted.code == 0, converted.err
    assert (converted.json["architecture"], converted.json["dtype"]) == ("LlamaForCausalLM", "float32")
    assert "quantization_config" not in json.loads((base / "config.json").read_text())
    texts = "say 3 it is 3<|over|>"
    tokens = [AutoTokenizer.from_pretrained(folder)(texts)["input_ids"] for folder in (base, original)]
    assert tokens[0] == tokens[1]
    with torch.inference_mode():
        models = [AutoModelForCausalLM.from_pretrained(folder) for folder in (base, original)]
        logits = [model(torch.tensor(tokens[:1])).logits for model in models]
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    again = red("convert", tiny_gguf, "--output", base, "--json")
    assert again.json["error"]["code"] == "output-exists"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "say 3", "completion": "it is 3"}) + "\n")
    rows = [f"data.{split}={tmp_path / 'rows.jsonl'}" for split in ("train", "validation")]
    run = tmp_path / "run"
    trained = red("train", "generation", "data.path=null", *rows, f"model.name_or_path={base}", "train.max_steps=1",
                  "train.eval_steps=1", f"output.dir={run}")  # fmt: skip
    assert trained.code == 0, trained.err
    exported = red("export", run, "--output", tmp_path / "out", "--json")
    assert exported.code == 0, exported.err
    assert exported.json["largest_difference"] < 1e-4


@needs_extra("gguf")
@pytest.mark.parametrize("fault", ["biases without a place", "damaged", "an unknown architecture"])
def test_what_cannot_be_read_is_refused(red, tmp_path: Path, tiny_gguf: Path, fault: str) -> None:
    original = tmp_path / "original"
    if fault == "damaged":
        tiny_gguf.write_bytes(tiny_gguf.read_bytes()[:1000])
    elif fault == "an unknown architecture":
        tiny_gguf.write_bytes(tiny_gguf.read_bytes().replace(b"llama", b"lxama"))
    else:
        tensors = load_file(original / "model.safetensors")
        tensors["model.layers.0.mlp.down_proj.bias"] = torch.ones(64)
        save_file(tensors, original / "model.safetensors", metadata={"format": "pt"})
        write_gguf(original, tiny_gguf, "tiny")
    outcome = red("convert", tiny_gguf, "--output", tmp_path / "base", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "unsupported-model"), outcome.err
    assert not (tmp_path / "base").exists()
