"""What holds for every architecture and every choice of components."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from red_cli import RedConfig, attach, detach, fold, load_adapter, save_adapter
from red_cli.edit.model import attachment, count, edits, head_parameter_names, train_head
from red_cli.edit.targets import ARCHITECTURES
from red_cli.export.merge import merge
from tests.tiny import CONFIGS, LAYERS, WIDTH, random_vectors, tiny_inputs, tiny_model

COMPONENTS = (["scale", "bias"], ["scale"], ["bias"])


@torch.inference_mode()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(**tiny_inputs()).logits


def test_every_architecture_of_the_table_is_tried() -> None:
    assert CONFIGS.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("components", COMPONENTS, ids="+".join)
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_contract(model_type: str, components: list[str], tmp_path: Path) -> None:
    model = tiny_model(model_type)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = logits(model)
    config = RedConfig(components=components)

    paths = attach(model, config)
    assert len(paths) == LAYERS
    assert torch.equal(logits(model), plain)  # the identity at the start
    counts = count(model)
    assert counts.edited == len(components) * WIDTH * LAYERS
    assert counts.base == sum(tensor.numel() for tensor in tiny_model(model_type).parameters())
    added = {f"{path}.red.{name}" for path in paths for name in components}
    assert model.state_dict().keys() == before.keys() | added

    random_vectors(model)
    edited = logits(model)
    assert (edited - plain).abs().max() > 1e-3
    assert torch.equal(logits(copy.deepcopy(model)), edited)
    assert torch.equal(logits(pickle.loads(pickle.dumps(model))), edited)

    train_head(model, head_parameter_names(model))
    save_adapter(model, tmp_path)
    other = tiny_model(model_type)
    assert load_adapter(other, tmp_path) == paths
    assert torch.equal(logits(other), edited)

    merged = merge(copy.deepcopy(model))
    assert attachment(merged) is None
    torch.testing.assert_close(logits(merged), edited, atol=1e-5, rtol=0)
    merged.save_pretrained(tmp_path / "merged")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(loaded), edited, atol=1e-5, rtol=0)

    detach(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(logits(model), plain)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_only_edits_and_head_get_gradients(model_type: str) -> None:
    model = tiny_model(model_type)
    attach(model, RedConfig())
    head = head_parameter_names(model)
    train_head(model, head)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    model(**tiny_inputs(), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    vectors = {f"{path}.red.{name}" for path, edit in edits(model) for name, _ in edit.named_parameters()}
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert touched == vectors | set(head)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_attach_works_without_weights(model_type: str) -> None:
    with torch.device("meta"):
        model = tiny_model(model_type)
    attach(model, RedConfig())
    assert {vector.device.type for _, edit in edits(model) for vector in edit.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("name", "d", "layers", "edited"), [("roberta-base", 768, 12, 18_432), ("roberta-large", 1024, 24, 49_152)]
)
def test_counts_of_the_paper(name: str, d: int, layers: int, edited: int) -> None:
    config = AutoConfig.for_model(
        "roberta", hidden_size=d, num_hidden_layers=layers, num_attention_heads=d // 64, intermediate_size=4 * d
    )
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    attach(model, RedConfig())
    assert count(model).edited == edited


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_vectors_stay_float32_and_activations_keep_their_dtype(dtype: torch.dtype) -> None:
    model = tiny_model("roberta").to(dtype)
    attach(model, RedConfig())
    seen: list[torch.dtype] = []
    _, edit = next(edits(model))
    edit.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    logits(model)
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
    edited = logits(model)
    assert fold(model) == []
    torch.testing.assert_close(logits(model), edited, atol=1e-5, rtol=0)
