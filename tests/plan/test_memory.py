"""The memory of a training step, estimated from a configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from red_cli.edit.attach import attach
from red_cli.edit.attached_adapters import count
from red_cli.edit.config import RedConfig
from red_cli.plan.memory import FusedAttention, estimate_memory
from tests.end_to_end.test_instruction_tuning import talks, write_jsonl
from tests.tasks.chat.test_chat_template import bytes_tokenizer
from tests.tiny import tiny_config

LLAMA_2_7B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 4096,
    "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2,
    "tie_word_embeddings": False,
}  # fmt: skip


def kept_bytes(device: str, rows: int = 2, heads: int = 4, length: int = 64, width: int = 16) -> int:
    """Bytes that attention keeps for its backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    query, key, value = (torch.zeros(rows, heads, length, width, device=device, requires_grad=True) for _ in "qkv")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FusedAttention():
        output = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert output.shape == query.shape
    return sum(kept.values())


def test_attention_without_data_keeps_what_the_kernel_keeps() -> None:
    assert kept_bytes("meta") == kept_bytes("cpu")


def test_llama_2_7b_in_bfloat16(red, tmp_path: Path) -> None:
    """`red check ultrafeedback` on a configuration and a tokenizer, without weights."""
    base = tmp_path / "llama"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(LLAMA_2_7B))
    tokenizer: PreTrainedTokenizerFast = bytes_tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(base)
    rows = [{"chosen": row["messages"]} for row in talks(40, 0)]
    rows[0]["chosen"][-1]["content"] = "a" * 2000  # cut at the recipe's length
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    outcome = red(
        "check",
        "ultrafeedback",
        f"model.name_or_path={base}",
        f"data.path={path}",
        "train.micro_batch_size=1",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    plan = outcome.json["plan"]
    assert (plan["counts"]["edited"], plan["counts"]["base"]) == (262_144, 6_738_415_616)
    assert plan["lengths"]["train"]["longest"] == plan["max_length"] == 768
    memory = plan["memory"]
    assert memory["base"] == 2 * 6_738_415_616
    # By hand, of each layer after the first edit, in MiB: both norms' inputs in float32 (2 x 12), query, key, value and
    # output of attention (4 x 6), gate, its activation and the other half (3 x 16.125), the edited output (6).
    layer = 768 * (2 * 4096 * 4 + 4 * 4096 * 2 + 3 * 11008 * 2 + 4096 * 2)
    assert memory["activations_per_row"] == pytest.approx(31 * layer, rel=0.01)
    assert 15.5 < (memory["base"] + memory["trained"] + memory["activations_per_row"]) / 2**30 < 16.0


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_without_data_is_what_is_kept_with_data(model_type: str, dtype: torch.dtype) -> None:
    """On so many tokens that the scores of all pairs would dominate."""
    config = tiny_config(model_type, max_position_embeddings=512, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, dtype=dtype)
    attach(empty, RedConfig())
    estimate = estimate_memory(empty, count(empty), 4.0, 1, {"inputs_embeds": 256}, labelled=0).activations_per_row
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    attach(model, RedConfig())
    ours = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in ours:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    inputs = torch.zeros(1, 256, config.hidden_size, dtype=dtype)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.train()(inputs_embeds=inputs)
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert output.logits.requires_grad
    assert estimate == pytest.approx(real, rel=0.02)
