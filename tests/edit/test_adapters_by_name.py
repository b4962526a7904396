"""Several adapters on one base: attach, switch, deactivate, detach, and batches with an adapter for each row."""

from __future__ import annotations

import copy

import pytest
import torch

from red_cli import RedConfig, activate, adapter_rows, attach, detach, fold, load_adapter, save_adapter
from red_cli.edit.attached_adapters import attachment, count, edits
from red_cli.edit.trained_head import head_parameter_names
from red_cli.errors import UserError
from tests.tiny import first_output, random_vectors, tiny_inputs, tiny_model

CONFIGS = {
    "one": RedConfig(),
    "two": RedConfig(components=["bias"], layers="1:"),
    "three": RedConfig(positions=["attn", "ffn_norm"]),
}


@torch.inference_mode()
def logits(model: torch.nn.Module, **options: object) -> torch.Tensor:
    return model(**tiny_inputs(), **options).logits


def attach_all(model: torch.nn.Module, with_heads: bool) -> dict[str | None, torch.Tensor]:
    """Attach three adapters; return the logits with each alone, and with None, the plain base."""
    alone: dict[str | None, torch.Tensor] = {None: logits(model)}
    for seed, (name, config) in enumerate(CONFIGS.items()):
        attach(model, config, name, train_head=with_heads)
        if with_heads:
            with torch.no_grad():
                for key in head_parameter_names(model):
                    model.get_parameter(key).add_(0.1 * (seed + 1))
        random_vectors(model, seed)
        alone[name] = logits(model)
    return alone


@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2"])
@pytest.mark.parametrize("with_heads", [False, True])
def test_switch_and_remove(model_type: str, with_heads: bool) -> None:
    model = tiny_model(model_type)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    alone = attach_all(model, with_heads)
    for name in ("two", None, "one", "three", "one", None):
        activate(model, name)
        assert torch.equal(logits(model), alone[name])
    activate(model, "two")
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    vectors = {f"{path}.red.two.bias" for path, _ in edits(model)}
    assert trained == vectors | (set(head_parameter_names(model)) if with_heads else set())
    assert count(model).edited == 2 * 32
    detach(model, "one")
    activate(model, "three")
    assert torch.equal(logits(model), alone["three"])
    with pytest.raises(UserError, match="'one'") as caught:
        activate(model, "one")
    assert caught.value.code == "invalid-adapter-name"
    detach(model)
    assert attachment(model) is None
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2", "electra", "distilbert", "modernbert"])
@pytest.mark.parametrize("with_heads", [False, True])
def test_each_row_its_own_adapter(model_type: str, with_heads: bool) -> None:
    if model_type == "modernbert":
        CONFIGS["three"] = RedConfig(positions=["attn"])
    model = tiny_model(model_type)
    alone = attach_all(model, with_heads)
    CONFIGS["three"] = RedConfig(positions=["attn", "ffn_norm"])
    names = ["two", None, "three", "one"]
    expected = torch.stack([alone[name][row] for row, name in enumerate(names)])
    for active in ("one", None, "two"):
        activate(model, active)
        torch.testing.assert_close(logits(model, adapter_names=names), expected, atol=1e-5, rtol=0)
        assert torch.equal(logits(model), alone[active])  # and nothing of it stays
        with adapter_rows(copy.deepcopy(model), names):
            pass
    with adapter_rows(model, names):
        torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "opt", "t5"])
def test_rows_through_generation(model_type: str) -> None:
    model = tiny_model(model_type)
    inputs = {name: tensor[1:, :5] for name, tensor in tiny_inputs(model_type).items() if "decoder" not in name}
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "num_beams": 2}
    for seed, name in enumerate(("one", "two")):
        attach(model, RedConfig(), name)
        random_vectors(model, seed)
    alone = {}
    for name in (None, "one", "two"):
        activate(model, name)
        alone[name] = model.generate(**inputs, **options)
    names = ["two", None, "one"]
    with adapter_rows(model, names):
        mixed = model.generate(**inputs, **options)
    assert torch.equal(mixed, torch.stack([alone[name][row] for row, name in enumerate(names)]))


def test_a_second_adapter_does_not_edit_the_first_ones_vectors() -> None:
    model = tiny_model("bert")
    config = RedConfig(target_modules=r".*\.output\.dense.*")
    assert attach(model, config, "one") == attach(model, config, "two")


def test_faults_of_names() -> None:
    model = tiny_model("bert")
    attach_all(model, with_heads=False)
    for name in ("one", "a b", "selection", "forward", ""):
        with pytest.raises(UserError, match=f"'{name}'") as caught:
            attach(model, RedConfig(), name)
        assert caught.value.code == "invalid-adapter-name"
    with pytest.raises(UserError, match="'four'") as unknown:
        logits(model, adapter_names=["one", "four", None, None])
    with pytest.raises(UserError, match=r"3 .* 4 rows") as too_few:
        logits(model, adapter_names=["one", "two", None])
    assert logits(model).shape == (4, 3)
    with pytest.raises(UserError, match="one, two") as several:
        fold(model)
    assert {error.value.code for error in (unknown, too_few, several)} == {"invalid-adapter-name"}


def test_adapters_are_loaded_under_names(tmp_path) -> None:
    model = tiny_model("bert")
    alone = attach_all(model, with_heads=True)
    for name in CONFIGS:
        activate(model, name)
        save_adapter(model, tmp_path / name)
    other = tiny_model("bert")
    for name in CONFIGS:
        load_adapter(other, tmp_path / name, name)
        assert torch.equal(logits(other), alone[name])
    names = ["one", "two", "three", None]
    expected = torch.stack([alone[name][row] for row, name in enumerate(names)])
    torch.testing.assert_close(logits(other, adapter_names=names), expected, atol=1e-5, rtol=0)


def test_folding_keeps_the_adapters_head() -> None:
    model = tiny_model("bert")
    attach(model, RedConfig())
    with torch.no_grad():
        model.classifier.weight.add_(1.0)
    random_vectors(model)
    expected = first_output(model, tiny_inputs())
    fold(model)
    torch.testing.assert_close(first_output(model, tiny_inputs()), expected, atol=1e-5, rtol=0)


def test_the_head_is_float32_on_a_half_precision_base() -> None:
    model = tiny_model("bert").to(torch.bfloat16)
    plain = logits(model)
    attach(model, RedConfig())
    assert {model.get_parameter(name).dtype for name in head_parameter_names(model)} == {torch.float32}
    torch.testing.assert_close(logits(model).to(torch.bfloat16), plain, atol=0.05, rtol=0)
    detach(model)
    assert torch.equal(logits(model), plain)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
