"""Every architecture and position: what is exported and loaded by plain transformers is what the adapter computes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
import transformers

from red_cli import RedConfig, attach, save_adapter
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.errors import UserError
from red_cli.run.events import Silent
from red_cli.run.export import export, open_source
from tests.tiny import DECODERS, SEQ2SEQ, first_output, random_vectors, tiny_inputs, tiny_model

REHOMED = {"mistral": {"sliding_window": None}, "qwen2": {}, "phi3": {}}
# position -> architectures that have no place for a bias there
ATTENTION = ("attn", "query", "key", "value", "qkv")
HOMELESS = {
    **{(name, position): "no place" for name in ("t5", "mt5", "umt5", "longt5", "mpt")
       for position in ("ffn", *ATTENTION)},
    **{(name, "ffn"): "no place" for name in ("qwen3", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2", "cohere",
                                              "stablelm", "mixtral", "qwen3_moe", "olmoe")},
    **{("mixtral", position): "no place" for position in ATTENTION},
    **{("gptj", position): "no place" for position in ATTENTION},
    **{("gpt_neo", position): "no place" for position in ("query", "key", "value")},
    ("stablelm", "attn"): "no place",
}  # fmt: skip
EVERY = [(name, position) for name, row in ARCHITECTURES.items() for position in row.positions]
RELATIVE = 1e-5


def trained(model_type: str, position: str, folder: Path, components: list[str]) -> transformers.PreTrainedModel:
    """A model with random edits; its base and its adapter are in `folder`."""
    model = tiny_model(model_type, **REHOMED.get(model_type, {}))
    model.save_pretrained(folder / "base")
    model = type(model).from_pretrained(folder / "base").eval()
    attach(model, RedConfig(positions=[position], components=components))
    random_vectors(model)
    save_adapter(model, folder / "adapter")
    return model


def written(folder: Path, form: str = "merged", dtype: str | None = None) -> Path:
    export(open_source(folder / "adapter", None, None), folder / form, form, dtype, None, None, Silent())
    return folder / form


def refusal(folder: Path) -> str | None:
    """Why there is no merged model; None where it is written."""
    try:
        written(folder)
    except UserError as error:
        return str(error)
    return None


def load(folder: Path) -> transformers.PreTrainedModel:
    """The model as anyone loads it, and nothing that it lacks or has too much."""
    config = json.loads((folder / "config.json").read_text())
    if "auto_map" in config:  # of ours: those of bases stay behind
        (auto,) = config["auto_map"]
        return getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True).eval()
    kind = getattr(transformers, config["architectures"][0])
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


@torch.inference_mode()
def assert_same(
    one: transformers.PreTrainedModel, other: transformers.PreTrainedModel, model_type: str, generate: bool = False
) -> None:
    inputs = tiny_inputs(model_type)
    expected, found = first_output(one, inputs), first_output(other, inputs)
    assert (expected - found).abs().max() <= RELATIVE * expected.abs().max()
    if generate and model_type in (*DECODERS, *SEQ2SEQ):
        prompt = {name: tensor[1:, :5] for name, tensor in inputs.items() if "decoder" not in name}
        options = {"max_new_tokens": 32, "min_new_tokens": 32, "do_sample": False}
        assert torch.equal(one.generate(**prompt, **options), other.generate(**prompt, **options))


@pytest.mark.parametrize(("model_type", "position"), EVERY)
def test_merged_is_the_adapter_or_is_refused(model_type: str, position: str, tmp_path: Path) -> None:
    model = trained(model_type, position, tmp_path, ["scale", "bias"])
    expected, message = HOMELESS.get((model_type, position)), refusal(tmp_path)
    if message is not None:
        assert expected is not None, message
        assert expected in message
        assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}
        return
    if expected is not None:
        warnings.warn(f"{model_type} has a place for the bias of {position}, and HOMELESS denies it", stacklevel=1)
    merged = load(tmp_path / "merged")
    is_llama = model_type in REHOMED and (model_type != "qwen2" or position in ("ffn", "attn"))
    assert merged.config.model_type == ("llama" if is_llama else model_type)
    assert_same(model, merged, model_type, generate=position == "ffn")


NO_PLACE = [(name, position) for name, position in HOMELESS if position in ARCHITECTURES[name].positions]


@pytest.mark.parametrize(("model_type", "position"), NO_PLACE)
def test_scales_alone_fold_everywhere(model_type: str, position: str, tmp_path: Path) -> None:
    model = trained(model_type, position, tmp_path, ["scale"])
    merged = load(written(tmp_path))
    assert merged.config.model_type == model_type
    assert_same(model, merged, model_type)


@pytest.mark.parametrize(("model_type", "position"), [*NO_PLACE, ("llama", "ffn"), ("gpt2", "ffn"), ("bert", "ffn")])
def test_code_carries_the_bias(model_type: str, position: str, tmp_path: Path) -> None:
    model = trained(model_type, position, tmp_path, ["scale", "bias"])
    loaded = load(written(tmp_path, "code"))
    assert_same(model, loaded, model_type, generate=position == "ffn")
