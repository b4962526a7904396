"""Every architecture and position: the exported model, loaded by plain transformers, computes what the adapter does."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers

from red_cli import RedConfig, attach, detach, save_adapter
from red_cli.base_model.base_files import read_base
from red_cli.base_model.load import load_base, load_config
from red_cli.base_model.prepare import fit_config
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.model_kinds import SEQUENCE_CLASSIFIER
from red_cli.errors import UserError
from red_cli.export.adapter_arrays import read_vectors
from red_cli.export.export import export, open_source
from red_cli.export.exported_model import exported_as_llama, write_exported
from red_cli.recipe.sections import Model
from red_cli.runs.events import NullListener
from tests.tiny import (
    DECODERS,
    ENCODERS,
    SEQ2SEQ,
    first_output,
    make_base,
    named,
    random_vectors,
    tiny_inputs,
    tiny_model,
)

BOTH = ("scale", "bias")
# architecture -> changes of the configuration with which a LLaMA computes the same
AS_LLAMA = {
    "mistral": {"sliding_window": None}, "qwen2": {}, "phi3": {}, "smollm3": {"no_rope_layers": [1, 1, 1]}
}  # fmt: skip
ATTENTION = ("attn", "query", "key", "value", "qkv")
# (architecture, position) pairs where a bias has no place
UNPLACED = {
    *((name, position) for name in ("t5", "mt5", "umt5", "longt5", "mpt", "mixtral")
      for position in ("ffn", *ATTENTION)),
    *((name, "ffn") for name in ("qwen3", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2", "cohere", "stablelm",
                                 "qwen3_moe", "olmoe")),
    *(("gptj", position) for position in ATTENTION),
    *(("gpt_neo", position) for position in ("query", "key", "value")),
    ("stablelm", "attn"),
}  # fmt: skip
UNPLACED_BY_MODEL = {
    name: positions
    for name, row in ARCHITECTURES.items()
    if (positions := [position for position in row.positions if (name, position) in UNPLACED])
}
RELATIVE = 1e-5


def placed_together(model_type: str) -> list[list[str]]:
    """Positions to merge together: all whose bias has a place.

    If biases come with a config switch, also an FFN and an attention position alone: the other modules of the switch
    then get a bias of zeros.
    """
    every = [position for position in ARCHITECTURES[model_type].positions if (model_type, position) not in UNPLACED]
    if not (ARCHITECTURES[model_type].bias_switches or model_type in AS_LLAMA):
        return [every] if every else []
    first_attention = next(position for position in every if position in ("query", "qkv"))
    return [[position] for position in every if position in ("ffn", first_attention)] + [every]


def save_base(model_type: str, folder: Path) -> transformers.PreTrainedModel:
    model = tiny_model(model_type, **AS_LLAMA.get(model_type, {}))
    model.save_pretrained(folder / "base")
    return type(model).from_pretrained(folder / "base").eval()


@contextmanager
def edited(
    model: transformers.PreTrainedModel, positions: list[str], folder: Path, components: Sequence[str]
) -> Iterator[Path]:
    """Random edits on the model inside the block; yields a folder with their adapter."""
    place = Path(tempfile.mkdtemp(dir=folder))
    attach(model, RedConfig(positions=positions, components=list(components)))
    random_vectors(model)
    try:
        save_adapter(model, place / "adapter")
        yield place
    finally:
        detach(model)


def together(check: Callable[[list[str]], None], positions: list[str]) -> None:
    """Check positions together; if that fails, one by one, so that the message names the failing one."""
    try:
        check(positions)
    except Exception:
        for position in positions if len(positions) > 1 else []:
            with named(f"at {position}"):
                check([position])
        raise


def written(folder: Path, form: str = "merged", dtype: str | None = None) -> Path:
    export(open_source(folder / "adapter", None, None), folder / form, form, dtype, None, None, NullListener())
    return folder / form


def refusal(folder: Path) -> UserError | None:
    """The error if there is no merged model; None if it is written."""
    try:
        written(folder)
    except UserError as error:
        return error
    return None


def load(folder: Path) -> transformers.PreTrainedModel:
    """Load the model as a user does; no key is missing or unexpected."""
    config = json.loads((folder / "config.json").read_text())
    if "auto_map" in config:  # ours: those of bases are not copied
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
        options = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False}
        assert torch.equal(one.generate(**prompt, **options), other.generate(**prompt, **options))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_merged_is_the_adapter_or_is_refused(model_type: str, tmp_path: Path) -> None:
    model = save_base(model_type, tmp_path)
    for position in UNPLACED_BY_MODEL.get(model_type, []):
        with named(f"at {position}"), edited(model, [position], tmp_path, BOTH) as folder:
            error = refusal(folder)
            if error is None:
                warnings.warn(f"{model_type} has a place for the bias of {position}; UNPLACED denies it", stacklevel=1)
                continue
            assert error.code == "unsupported-model"
            assert error.message.startswith(f"a {model_type} model has no place for a bias at ")
            assert {path.name for path in folder.iterdir()} == {"adapter"}

    def check(positions: list[str]) -> None:
        with edited(model, positions, tmp_path, BOTH) as folder:
            merged = load(written(folder))
            own = {"qwen2": {"query", "key", "value"}, "smollm3": set(positions)}.get(model_type, set())
            is_llama = model_type in AS_LLAMA and not own.issuperset(positions)
            assert merged.config.model_type == ("llama" if is_llama else model_type)
            assert_same(model, merged, model_type, generate="ffn" in positions and len(positions) > 1)

    for positions in placed_together(model_type):
        together(check, positions)


@pytest.mark.parametrize("model_type", UNPLACED_BY_MODEL)
def test_scales_alone_fold_everywhere(model_type: str, tmp_path: Path) -> None:
    model = save_base(model_type, tmp_path)

    def check(positions: list[str]) -> None:
        with edited(model, positions, tmp_path, ["scale"]) as folder:
            merged = load(written(folder))
            assert merged.config.model_type == model_type
            assert_same(model, merged, model_type)

    together(check, UNPLACED_BY_MODEL[model_type])


@pytest.mark.parametrize("model_type", [*UNPLACED_BY_MODEL, "llama", "gpt2", "bert"])
def test_code_carries_the_bias(model_type: str, tmp_path: Path) -> None:
    model = save_base(model_type, tmp_path)

    def check(positions: list[str]) -> None:
        with edited(model, positions, tmp_path, BOTH) as folder:
            assert_same(model, load(written(folder, "code")), model_type, generate="ffn" in positions)

    together(check, UNPLACED_BY_MODEL.get(model_type, ["ffn"]))


@pytest.mark.parametrize("model_type", AS_LLAMA)
@pytest.mark.parametrize("components", [BOTH, ["scale"]], ids=["both", "scale"])
def test_a_llama_computes_the_same_whatever_is_edited(model_type: str, components: list[str], tmp_path: Path) -> None:
    """Also where the architecture has places of its own, as for a GGUF file."""
    model = save_base(model_type, tmp_path)
    with edited(model, list(ARCHITECTURES[model_type].positions), tmp_path, components) as folder:
        arrays = read_vectors(folder / "adapter")
        exported = exported_as_llama(read_base("base", tmp_path / "base"), arrays, None)
        (tmp_path / "llama").mkdir()
        write_exported(exported, tmp_path / "llama", NullListener().writing)
        llama = load(tmp_path / "llama")
        assert llama.config.model_type == "llama"
        assert_same(model, llama, model_type, generate=True)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_a_head_on_a_bare_encoder_comes_along(model_type: str, tmp_path: Path) -> None:
    """The base's files have no head; the merged model has the one that trained, and its labels."""
    base = Model(name_or_path=str(make_base(tmp_path / "base", model_type)))
    config = load_config(base)
    fit_config(config, base, SEQUENCE_CLASSIFIER, ["no", "yes"])
    model, head = load_base(base, config, SEQUENCE_CLASSIFIER, seed=1)
    attach(model, RedConfig(), train_head=head)
    random_vectors(model)
    with torch.no_grad():
        for name in head:
            model.get_parameter(name).add_(0.1)
    save_adapter(model, tmp_path / "adapter")
    merged = load(written(tmp_path))
    assert merged.config.id2label == {0: "no", 1: "yes"}
    assert_same(model, merged, model_type)
