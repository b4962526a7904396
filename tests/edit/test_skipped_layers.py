"""What runs of the layers before the first edited one: nothing backwards, and nothing at all with stored states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from transformers import PreTrainedModel

from red_cli import RedConfig, attach
from red_cli.edit.frozen_prefix import dropout_in_prefix, frozen_prefix
from red_cli.edit.repeated_layers import blocks, stacks
from red_cli.edit.skipped_layers import Prefix, hidden_states, output_of, skipped_layers
from red_cli.train.resources import checkpoint_gradients
from tests.tiny import DECODERS, ENCODERS, SEQ2SEQ, first_output, random_vectors, tiny_inputs, tiny_model

EDITED = RedConfig(layers="2:")  # of three layers
NEEDS_FIRST = ("t5", "mt5", "longt5")  # its biases of relative positions


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[tuple[Counter, Counter]]:
    """The forward and backward passes of each layer, by its number in the model; recomputed ones count."""
    forward, backward = Counter[int](), Counter[int]()

    def watch(output: object, number: int) -> None:
        states = hidden_states(output)
        if states.requires_grad:
            states.register_hook(lambda _: backward.update([number]))

    hooks = []
    for number, block in enumerate(blocks(model)):
        inner = next(module for module in block.modules() if not list(module.children()))
        hooks.append(inner.register_forward_hook(lambda *_, number=number: forward.update([number])))
        hooks.append(block.register_forward_hook(lambda _, inputs, output, number=number: watch(output, number)))
    yield forward, backward
    for hook in hooks:
        hook.remove()


def edited(model_type: str) -> PreTrainedModel:
    model = tiny_model(model_type)
    attach(model, EDITED)
    random_vectors(model)
    return model


@pytest.mark.parametrize("model_type", [*ENCODERS, *DECODERS, *SEQ2SEQ])
def test_nothing_runs_backwards_below_the_first_edited_layer(model_type: str) -> None:
    """Nor is anything there computed again for checkpointed gradients."""
    model = edited(model_type)
    checkpointed = model.supports_gradient_checkpointing
    if checkpointed:
        checkpoint_gradients(model)
        model.train()
    prefix, every = frozen_prefix(model), blocks(model)
    assert prefix == stacks(model)[0][:2]
    with counted(model) as (forward, backward):
        first_output(model, tiny_inputs(model_type)).square().mean().backward()
    for number in range(len(every)):
        below = number < len(prefix)
        assert backward[number] == (0 if below else 1)
        assert forward[number] == (2 if checkpointed and not below else 1)


@pytest.mark.parametrize("model_type", [*ENCODERS, *DECODERS, *SEQ2SEQ])
def test_stored_states_take_the_place_of_the_prefix(model_type: str) -> None:
    """With 0 at padding, bit for bit, for the output and for the gradients; other shapes run all layers."""
    model, inputs = edited(model_type), tiny_inputs(model_type)
    prefix = frozen_prefix(model)
    ways = Prefix.ways(prefix, output_of(prefix[0], lambda: model(**inputs)))
    way = ways[1] if model_type in NEEDS_FIRST else ways[0]
    states = hidden_states(output_of(prefix[-1], lambda: model(**inputs))).detach()
    states = states * inputs["attention_mask"].unsqueeze(-1)

    def output_and_gradients() -> list[torch.Tensor]:
        output = first_output(model, inputs)
        if model_type in DECODERS:
            output = output[inputs["attention_mask"] == 1]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return [
            output,
            *torch.autograd.grad(output.square().mean(), trained, allow_unused=True, materialize_grads=True),
        ]

    expected = output_and_gradients()
    with counted(model) as (forward, _), skipped_layers(way, states):
        found = output_and_gradients()
        short = first_output(model, {name: tensor[:1] for name, tensor in inputs.items()})
    assert all(map(torch.equal, found, expected))
    # In both passes the other layers run; in that of another shape all do
    assert [forward[number] for number in range(3)] == [1 + way.computed, 1, 2]
    assert way.computed == (1 if model_type in NEEDS_FIRST else 0)
    assert torch.allclose(short, first_output(model, inputs)[:1], atol=1e-4)
    assert all(map(torch.equal, output_and_gradients(), expected))  # restored
    assert not any("forward" in vars(block) for block in prefix)


def test_t5_needs_its_first_layer() -> None:
    """Without it the logits are others, by which a run finds out."""
    model, inputs = edited("t5"), tiny_inputs("t5")
    prefix = frozen_prefix(model)
    without, with_first = Prefix.ways(prefix, output_of(prefix[0], lambda: model(**inputs)))
    assert (without.skipped, with_first.skipped) == (2, 1)
    states = hidden_states(output_of(prefix[-1], lambda: model(**inputs)))
    with skipped_layers(without, states):
        found = first_output(model, inputs)
    assert not torch.allclose(found, first_output(model, inputs), atol=1e-3)


def test_the_frozen_prefix_ends_where_something_trains() -> None:
    cases = {
        "all": (RedConfig(), 0),
        "first": (RedConfig(layers=[0]), 0),
        "last": (RedConfig(layers=[2]), 2),
        "second": (RedConfig(layers=[1]), 1),
        "decoder": (RedConfig(target_modules=r"decoder\.block\.\d+\..*\.wo"), 3),
    }
    for name, (config, layers) in cases.items():
        model = tiny_model("t5" if name == "decoder" else "bert")
        attach(model, config)
        assert len(frozen_prefix(model)) == layers, name


def test_dropout_above_the_prefix_does_not_count() -> None:
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    cases: dict = {
        "embeddings": ("bert", {}, "bert.embeddings.dropout"),
        "attention": ("distilbert", {"dropout": 0.0}, "distilbert.transformer.layer.0.attention.dropout"),
        "head": ("bert", none | {"classifier_dropout": 0.5}, None),
        "layers": ("bart", {"dropout": 0.0, "attention_dropout": 0.0, "encoder_layerdrop": 0.1}, "model.encoder"),
        "decoder": ("llama", {}, None),
        "residual": ("gpt2", {"embd_pdrop": 0.0, "attn_pdrop": 0.0}, "transformer.h.0.attn.resid_dropout"),
    }  # fmt: skip
    for name, (model_type, settings, path) in cases.items():
        model = tiny_model(model_type, **settings)
        attach(model, EDITED)
        assert dropout_in_prefix(model, frozen_prefix(model)) == path, name
    model = tiny_model("bert", **none)
    model.bert.encoder.layer[2].output.dropout.p = 0.1
    attach(model, EDITED)
    assert dropout_in_prefix(model, frozen_prefix(model)) is None
