"""What holds for every architecture of the table at all of its positions."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from red_cli import RedConfig, attach, detach, fold, load_adapter, save_adapter
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.attached_adapters import attachment, count, edits
from red_cli.edit.repeated_layers import search_ffn_outputs
from red_cli.edit.trained_head import head_parameter_names, train_head
from red_cli.errors import UserError
from tests.tiny import (
    CONFIGS,
    DECODERS,
    ENCODERS,
    LAYERS,
    SEQ2SEQ,
    WIDTH,
    first_output,
    named,
    random_vectors,
    tiny_inputs,
    tiny_model,
)

MIXTURES = ("mixtral", "qwen3_moe", "olmoe")
COMPONENTS = (["scale", "bias"], ["scale"], ["bias"])


@torch.inference_mode()
def outputs(model: torch.nn.Module, model_type: str) -> torch.Tensor:
    return first_output(model, tiny_inputs(model_type))


def outputs_and_widths(model: torch.nn.Module, model_type: str, paths: list[str]) -> tuple[torch.Tensor, int]:
    """The model's output, and the measured sum of the widths of the modules' outputs."""
    widths = {}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, path=path: widths.update({path: output.shape[-1]})
        )
        for path in paths
    ]
    found = outputs(model, model_type)
    for hook in hooks:
        hook.remove()
    return found, sum(widths.values())


def test_every_architecture_of_the_table_is_tried() -> None:
    assert CONFIGS.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_contract(model_type: str) -> None:
    """Each position by itself: an edit starts as the identity, has an effect, folds, and leaves no trace."""
    model = tiny_model(model_type)
    plain = outputs(model, model_type)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    base = sum(tensor.numel() for tensor in model.parameters())
    for position in ARCHITECTURES[model_type].positions:
        with named(f"{model_type} at {position}"):
            paths = attach(model, RedConfig(positions=[position]), train_head=False)
            assert len(paths) >= LAYERS
            at_start, widths = outputs_and_widths(model, model_type, paths)
            assert torch.equal(at_start, plain)
            assert count(model).edited == 2 * widths
            assert count(model).base == base
            added = {f"{path}.red.default.{name}" for path in paths for name in ("scale", "bias")}
            assert model.state_dict().keys() == before.keys() | added

            random_vectors(model)
            edited = outputs(model, model_type)
            assert (edited - plain).abs().max() > 1e-3
            assert_folds(model, model_type, edited, refused=position == "ffn" and model_type in MIXTURES)

            detach(model)
            after = model.state_dict()
            assert after.keys() == before.keys()
            assert all(torch.equal(after[name], before[name]) for name in before)
            assert flags == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
            assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(outputs(model, model_type), plain)


def assert_folds(model: PreTrainedModel, model_type: str, edited: torch.Tensor, refused: bool) -> None:
    folded = copy.deepcopy(model)
    if refused:
        with pytest.raises(UserError) as caught:
            fold(folded)
        assert caught.value.code == "unsupported-model"
        assert torch.equal(outputs(folded, model_type), edited)
        return
    fold(folded)
    assert attachment(folded) is None
    tolerance = 1e-5 * max(1, edited.abs().max().item())
    torch.testing.assert_close(outputs(folded, model_type), edited, atol=tolerance, rtol=0)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_copies_compute_the_same(model_type: str, tmp_path: Path) -> None:
    """All positions together: a deep copy, a pickled copy and a saved adapter on a fresh base."""
    model, fresh = tiny_model(model_type), tiny_model(model_type)
    paths = attach(model, RedConfig(positions=list(ARCHITECTURES[model_type].positions)))
    random_vectors(model)
    edited = outputs(model, model_type)
    assert torch.equal(outputs(copy.deepcopy(model), model_type), edited)
    assert torch.equal(outputs(pickle.loads(pickle.dumps(model)), model_type), edited)
    save_adapter(model, tmp_path)
    assert load_adapter(fresh, tmp_path) == paths
    assert torch.equal(outputs(fresh, model_type), edited)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_only_vectors_learn_also_with_checkpointed_gradients(model_type: str) -> None:
    model = tiny_model(model_type)
    paths = attach(model, RedConfig(), train_head=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if model.supports_gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    first_output(model, tiny_inputs(model_type)).square().mean().backward()
    vectors = {f"{path}.red.default.{name}" for path in paths for name in ("scale", "bias")}
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert touched <= vectors
    assert len(touched) >= len(vectors) - 2  # the last layer's may not reach a pooled output
    torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1).step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == touched


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_places_are_found_without_weights(model_type: str) -> None:
    """On the meta device, the search by shapes finds the modules of the table."""
    with torch.device("meta"):
        model = tiny_model(model_type)
    searched = search_ffn_outputs(model)
    assert searched == attach(model, RedConfig())
    assert {vector.device.type for _, edit in edits(model) for vector in edit.parameters()} == {"meta"}


@pytest.mark.parametrize("model_type", [*DECODERS, *SEQ2SEQ])
def test_generation_with_a_cache_is_generation_without(model_type: str) -> None:
    model = tiny_model(model_type)
    attach(model, RedConfig(positions=list(ARCHITECTURES[model_type].positions)))
    random_vectors(model)
    inputs = {name: tensor[1:, :5] for name, tensor in tiny_inputs(model_type).items() if "decoder" not in name}
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    cached, plain = (model.generate(**inputs, **options, use_cache=use) for use in (True, False))
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("components", COMPONENTS, ids="+".join)
@pytest.mark.parametrize("model_type", ENCODERS)
def test_folding_keeps_the_trained_head(model_type: str, components: list[str]) -> None:
    model = tiny_model(model_type)
    attach(model, RedConfig(components=components))
    train_head(model, head_parameter_names(model))
    assert count(model).edited == len(components) * WIDTH * LAYERS
    random_vectors(model)
    with torch.no_grad():
        model.get_parameter(head_parameter_names(model)[0]).add_(0.1)
    edited = outputs(model, model_type)
    fold(model)
    torch.testing.assert_close(outputs(model, model_type), edited, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", MIXTURES)
def test_a_mixtures_scale_folds_into_its_experts(model_type: str) -> None:
    model = tiny_model(model_type)
    attach(model, RedConfig(components=["scale"]))
    random_vectors(model)
    edited = outputs(model, model_type)
    assert fold(model) == []
    torch.testing.assert_close(outputs(model, model_type), edited, atol=1e-5 * edited.abs().max().item(), rtol=0)


def test_a_shared_weight_is_not_folded_into() -> None:
    model = tiny_model("gpt2")
    attach(model, RedConfig(target_modules="lm_head"))
    with pytest.raises(UserError, match="lm_head") as caught:
        fold(model)
    assert caught.value.code == "unsupported-model"


_COMPILED = (
    "bert",
    "modernbert",
    "deberta-v2",
    "gpt2",
    "gpt_neox",
    "llama",
    "gemma2",
    "phi3",
    "mixtral",
    "t5",
    "bart",
    "vit",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "backend"),
    # An edit compiles alike in each; these differ in their norms, fused projections, encoders and experts.
    [*((name, "eager") for name in _COMPILED), ("llama", "inductor")],
)
def test_compiled_models_are_edited(model_type: str, backend: str) -> None:
    model = tiny_model(model_type)
    attach(model, RedConfig())
    random_vectors(model)
    expected = outputs(model, model_type)
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend)
    torch.testing.assert_close(outputs(compiled, model_type), expected, atol=1e-5, rtol=1e-5)


_RED_PLUS_PLUS = ["ffn", "attn", "query", "key", "value"]
PAPER_COUNTS = [
    ("roberta", {"hidden_size": 768, "num_hidden_layers": 12}, ["ffn"], 18_432),
    ("roberta", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}, ["ffn"], 49_152),
    ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}, ["ffn"], 49_152),
    ("gpt2", {"n_embd": 1280, "n_layer": 36, "n_head": 20}, ["ffn"], 92_160),
    ("t5", {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, ["ffn"], 36_864),
    ("llama", {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008}, ["ffn"], 262_144),
    ("roberta", {"hidden_size": 768, "num_hidden_layers": 12}, _RED_PLUS_PLUS, 92_160),
    ("roberta", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}, _RED_PLUS_PLUS, 245_760),
    ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}, ["ffn", "attn", "qkv"], 245_760),
    ("gpt2", {"n_embd": 1280, "n_layer": 36, "n_head": 20}, ["ffn", "attn", "qkv"], 460_800),
]


@pytest.mark.parametrize(("model_type", "options", "positions", "edited"), PAPER_COUNTS)
def test_counts_of_the_paper(model_type: str, options: dict, positions: list[str], edited: int) -> None:
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **options))
    attach(model, RedConfig(positions=positions))
    assert count(model).edited == edited


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_vectors_stay_float32_and_activations_keep_their_dtype(dtype: torch.dtype) -> None:
    model = tiny_model("roberta").to(dtype)
    attach(model, RedConfig())
    seen: list[torch.dtype] = []
    _, edit = next(edits(model))
    edit.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    outputs(model, "roberta")
    assert seen == [dtype]
    assert {vector.dtype for _, edit in edits(model) for vector in edit.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("layers", "expected"), [("all", [0, 1, 2]), ("1:", [1, 2]), (":2", [0, 1]), ("1:2", [1]), ([2, 0], [0, 2])]
)
def test_layers(layers: str | list[int], expected: list[int]) -> None:
    paths = attach(tiny_model("bert"), RedConfig(layers=layers))
    assert paths == [f"bert.encoder.layer.{layer}.output.dense" for layer in expected]


def test_target_modules_edit_layer_norms_and_fold() -> None:
    model = tiny_model("bert")
    paths = attach(model, RedConfig(target_modules=r".*\.output\.LayerNorm"))
    assert len(paths) == 2 * LAYERS
    random_vectors(model)
    edited = outputs(model, "bert")
    assert fold(model) == []
    torch.testing.assert_close(outputs(model, "bert"), edited, atol=1e-5, rtol=0)
