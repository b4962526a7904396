"""What an export's target takes: refusals before anything is written, and the page of servers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from red_cli import RedConfig, attach, save_adapter
from red_cli.base_model.base_files import read_base
from red_cli.edit.architectures import ARCHITECTURES, Reads, Servers
from red_cli.errors import UserError
from red_cli.export.export import export, open_source
from red_cli.export.servers import Target, unread_biases
from red_cli.runs.events import NullListener
from tests.tiny import random_vectors, tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "serving.md"
SCALE, BOTH = ["scale"], ["scale", "bias"]
# (model type, target, positions, components, form) -> what the error names; None: it is written
CASES: dict[tuple, str | None] = {
    ("qwen3", "vllm", "attn", "both", "merged"): "3 biases of this qwen3 model, the first at model.layers.0.self_attn",
    ("qwen3", "llama.cpp", "attn", "both", "merged"): "self_attn.o_proj",
    ("qwen3", "transformers", "attn", "both", "merged"): None,
    ("qwen3", None, "attn", "both", "merged"): None,
    ("qwen3", "vllm", "attn", "scale", "merged"): None,
    ("qwen3", "vllm", "value", "both", "merged"): None,  # o_proj has a bias of zeros, which vLLM may drop
    ("qwen3", "llama.cpp", "value", "both", "merged"): "self_attn.o_proj",  # llama.cpp refuses it
    ("gemma", "vllm", "value", "both", "merged"): "self_attn.v_proj",
    ("cohere", "vllm", "attn", "both", "merged"): "self_attn.o_proj",
    ("llama", "vllm", "ffn", "both", "merged"): None,
    ("qwen2", "vllm", "ffn", "both", "merged"): None,
    ("gpt_neo", "vllm", "ffn", "both", "merged"): "GPTNeoForCausalLM",
    ("gptj", "llama.cpp", "ffn", "both", "merged"): "GPTJForCausalLM",
    ("bert", "vllm", "ffn", "both", "merged"): "BertForSequenceClassification",
    ("t5", "vllm", "ffn", "both", "merged"): "no place",
    ("llama", "vllm", "ffn", "both", "code"): "--format merged",
    ("llama", "vllm", "ffn", "both", "adapter"): "--format merged",
    ("llama", "llama.cpp", "ffn", "both", "code"): "merged or gguf",
    ("llama", "transformers", "ffn", "both", "gguf"): "merged or code",
    ("llama", "transformers", "ffn", "both", "code"): None,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case)))
def test_an_export_that_its_target_would_answer_otherwise_is_refused(tmp_path: Path, case: tuple) -> None:
    model_type, target, position, components, form = case
    fact = CASES[case]
    model = tiny_model(model_type)
    model.save_pretrained(tmp_path / "base")
    attach(model, RedConfig(positions=[position], components=SCALE if components == "scale" else BOTH))
    random_vectors(model)
    save_adapter(model, tmp_path / "adapter")
    source = open_source(tmp_path / "adapter", None, str(tmp_path / "base"))
    arguments = (source, tmp_path / "out", form, None, None, None, NullListener(), target)
    if fact is None:
        export(*arguments)
        return
    with pytest.raises(UserError) as refused:
        export(*arguments)
    assert refused.value.code == ("unsupported-model" if form == "merged" else "invalid-option")
    assert fact in refused.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def test_the_command_refuses_with_a_code_and_names_a_way_out(red, tmp_path: Path) -> None:
    model = tiny_model("qwen3")
    model.save_pretrained(tmp_path / "base")
    attach(model, RedConfig(positions=["attn"]))
    random_vectors(model)
    save_adapter(model, tmp_path / "adapter")
    command = ("export", tmp_path / "adapter", "--base", tmp_path / "base", "-o", tmp_path / "out", "--json")
    refused = red(*command, "--target", "vllm")
    assert refused.code == 2
    assert refused.json["error"]["code"] == "unsupported-model"
    assert "--model-impl transformers" in refused.json["error"]["hint"]
    assert not (tmp_path / "out").exists()
    assert red(*command, "--target", "transformers", "--no-verify").code == 0


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("target", ["vllm", "llama.cpp"])
def test_biases_of_zeros_matter_to_llama_cpp_alone(tmp_path: Path, target: Target, zero: bool) -> None:
    model = tiny_model("qwen3", attention_bias=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("o_proj.bias"):
                parameter.fill_(0.0 if zero else 1e-3)
    model.save_pretrained(tmp_path)
    files = read_base("base", tmp_path)
    unread = unread_biases(target, "qwen3", files.tensors.items())
    expected = [f"model.layers.{layer}.self_attn.o_proj" for layer in range(model.config.num_hidden_layers)]
    assert unread == ([] if zero and target == "vllm" else expected)


def cell(reads: Reads | None, without_output: str) -> str:
    """The words of the page for what a server reads; `without_output`: for one that drops the biases of `o_proj`."""
    if reads is None:
        return "no"
    known = {"": "every bias", r"self_attn\.o_proj": without_output, r"self_attn\.[qkvo]_proj": "not attention"}
    return known.get(reads.unread, "its own biases") + (", run" if reads.run else ", read")


def test_the_page_of_servers_has_the_table() -> None:
    table = PAGE.read_text().partition("| model type |")[2].partition("\n\n")[0]
    rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    shown = {name: tuple(row[1:3]) for row in rows for name in re.findall(r"[\w-]+", row[0])}
    servers = {name: row.servers for name, row in ARCHITECTURES.items() if row.servers != Servers()}
    assert shown == {
        name: (cell(found.vllm, "not `o_proj`"), cell(found.llama_cpp, "scales only"))
        for name, found in servers.items()
    }


def test_modules_without_a_place_are_modules_of_the_architecture() -> None:
    for model_type, row in ARCHITECTURES.items():
        for reads in row.servers:
            if reads is not None and reads.unread:
                modules = [name for name, _ in tiny_model(model_type).named_modules()]
                assert any(not reads.has_place_at(name) for name in modules), model_type
