"""vLLM writes the tokens that transformers does, for exports of each architecture that the table says it reads.

`RED_VLLM_PYTHON=/path/to/python` names the interpreter of an environment with vLLM (docs/servers.md).
"""

from __future__ import annotations

import json
import os
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers

from red_cli import RedConfig, attach, save_adapter
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.attached_adapters import edits
from red_cli.errors import UserError
from red_cli.export.export import export, open_source
from red_cli.runs.events import NullListener
from tests.tiny import CONFIGS, tiny_model

PYTHON = os.environ.get("RED_VLLM_PYTHON")
PROMPTS = [[7, 9, 30, 4, 5], [20, 21, 22, 50, 60, 8, 9], [33], [5, 40, 6, 41, 7, 42, 8, 43, 9, 44]]
NEW_TOKENS = 16
# vLLM's attention needs heads of 32 or more, and its Falcon an FFN of four times the width.
_WIDE = {"vocab_size": 64, "initializer_range": 0.15, "hidden_size": 128, "num_attention_heads": 2,
         "intermediate_size": 160}  # fmt: skip
_GPT2 = {"vocab_size": 64, "initializer_range": 0.15, "n_embd": 128, "n_head": 2, "n_inner": 160}
_CHANGES: dict[str, dict] = {
    "gpt2": _GPT2,
    "gptj": _GPT2 | {"rotary_dim": 16},
    "opt": _WIDE | {"ffn_dim": 160, "word_embed_proj_dim": 128, "init_std": 0.15},
    "bloom": {"vocab_size": 64, "initializer_range": 0.15, "hidden_size": 128, "n_head": 2},
    "falcon": _WIDE | {"ffn_hidden_size": 512},
    "olmoe": _WIDE | {"moe_intermediate_size": 160},
    "mistral": _WIDE | {"sliding_window": None},
}
CLAIMED = [name for name, row in ARCHITECTURES.items() if row.servers.vllm is not None and row.servers.vllm.run]
PARTLY = [name for name in CLAIMED if (reads := ARCHITECTURES[name].servers.vllm) and reads.unread]


@dataclass
class Case:
    """An exported model: the tokens of transformers, and those of vLLM by model_impl."""

    expected: list[list[int]]
    differs: bool
    answers: dict[str, dict]


def wide_model(model_type: str) -> transformers.PreTrainedModel:
    shared = {key: value for key, value in (("num_key_value_heads", 1), ("head_dim", 64)) if key in CONFIGS[model_type]}
    model = tiny_model(model_type, **_CHANGES.get(model_type, _WIDE), **shared)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if model_type in ("gemma2", "gemma3_text") and "post_" in name:
                parameter.add_(4.0)  # else the embeddings alone decide the next token
    return model


@torch.inference_mode()
def greedy(model: transformers.PreTrainedModel) -> list[list[int]]:
    written = []
    for prompt in PROMPTS:
        tokens = list(prompt)
        for _ in range(NEW_TOKENS):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        written.append(tokens[len(prompt) :])
    return written


def exported(model_type: str, positions: list[str], components: list[str], folder: Path) -> Path:
    """An export with random edits; raises UserError where a bias has no place."""
    model = wide_model(model_type)
    model.save_pretrained(folder / "base")
    attach(model, RedConfig(positions=positions, components=components))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, edit in edits(model):
            for name, vector in edit.named_parameters():
                vector.add_(torch.randn(vector.shape, generator=generator) * (0.3 if "scale" in name else 1.0))
    save_adapter(model, folder / "adapter")
    source = open_source(folder / "adapter", None, str(folder / "base"))
    export(source, folder / "merged", "merged", None, None, None, NullListener())
    return folder / "merged"


def all_that_vllm_reads(model_type: str, folder: Path) -> Path:
    """An export with edits of every position whose bias has a place that vLLM reads; of scales, if there is none."""
    reads = ARCHITECTURES[model_type].servers.vllm
    assert reads is not None
    positions = list(ARCHITECTURES[model_type].positions)
    claimed = [position for position in positions if reads.has_place_at(_module(model_type, position))]
    placed = [position for position in claimed if _has_place(model_type, position, folder / position)]
    if placed:
        return exported(model_type, placed, ["scale", "bias"], folder / "read")
    return exported(model_type, positions, ["scale"], folder / "read")


def _module(model_type: str, position: str) -> str:
    model = wide_model(model_type)
    attach(model, RedConfig(positions=[position]))
    return next(iter(edits(model)))[0]


def _has_place(model_type: str, position: str, folder: Path) -> bool:
    try:
        exported(model_type, [position], ["scale", "bias"], folder)
    except UserError:
        return False
    return True


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Case]:
    """(model type, "read" or "unread") -> the export, answered by transformers and by vLLM, which is started once."""
    place = tmp_path_factory.mktemp("vllm")
    folders = {(name, "read"): all_that_vllm_reads(name, place / name) for name in CLAIMED}
    folders |= {(name, "unread"): exported(name, ["attn"], ["scale", "bias"], place / f"{name}-unread")
                for name in PARTLY}  # fmt: skip
    models = [(key, "auto") for key in folders] + [(key, "transformers") for key in folders if key[1] == "unread"]
    asked = {"prompts": PROMPTS, "new_tokens": NEW_TOKENS, "models": [(str(folders[key]), by) for key, by in models]}
    (place / "questions.json").write_text(json.dumps(asked))
    script = Path(__file__).with_name("answer_with_vllm.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert PYTHON is not None
    subprocess.run(
        [PYTHON, script, place / "questions.json", place / "answers.json"], check=True, env=environment, cwd=place
    )
    answers = json.loads((place / "answers.json").read_text())
    found = {}
    for key, folder in folders.items():
        kind = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
        expected, base = greedy(kind.from_pretrained(folder).eval()), greedy(wide_model(key[0]))
        by = {by: answer for (asked_key, by), answer in zip(models, answers, strict=True) if asked_key == key}
        found[key] = Case(expected, expected != base, by)
    return found


needs_vllm = pytest.mark.skipif(
    PYTHON is None, reason="needs RED_VLLM_PYTHON, the interpreter of an environment with vLLM"
)


@pytest.mark.slow
@needs_vllm
@pytest.mark.parametrize("model_type", CLAIMED)
def test_vllm_writes_the_tokens_of_transformers(cases: dict[tuple[str, str], Case], model_type: str) -> None:
    case = cases[model_type, "read"]
    assert case.differs
    assert case.answers["auto"].get("tokens") == case.expected, case.answers["auto"].get("error")


@pytest.mark.slow
@needs_vllm
@pytest.mark.parametrize("model_type", PARTLY)
def test_what_its_own_code_drops_its_code_of_transformers_reads(
    cases: dict[tuple[str, str], Case], model_type: str
) -> None:
    case = cases[model_type, "unread"]
    assert case.differs
    assert case.answers["transformers"].get("tokens") == case.expected, case.answers["transformers"].get("error")
    if case.answers["auto"].get("tokens") == case.expected:
        warnings.warn(f"vLLM reads every bias of {model_type}; the table denies it", stacklevel=1)
