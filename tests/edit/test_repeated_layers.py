"""The repeated layers of a model whose module list holds module lists."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from red_cli import RedConfig, attach
from red_cli.edit.frozen_prefix import frozen_prefix
from red_cli.edit.repeated_layers import blocks, most_in_a_layer, search_ffn_outputs, stacks
from red_cli.edit.skipped_layers import Prefix, hidden_states, output_of, skipped_layers
from tests.tiny import random_vectors, tiny_funnel, tiny_inputs


@pytest.fixture
def funnel() -> PreTrainedModel:
    return tiny_funnel()


def test_the_layers_are_those_that_run(funnel: PreTrainedModel) -> None:
    inner = funnel.funnel.encoder.blocks
    assert stacks(funnel) == [[*inner[0]], [*inner[1]]]
    called = []
    for block in blocks(funnel):
        block.register_forward_hook(lambda module, inputs, output: called.append(module))
    funnel(**tiny_inputs())
    assert called == blocks(funnel)


def test_modules_are_counted_by_layer(funnel: PreTrainedModel) -> None:
    outputs = search_ffn_outputs(funnel)
    assert outputs == [f"funnel.encoder.blocks.{place}.ffn.linear_2" for place in ("0.0", "0.1", "1.0", "1.1")]
    assert most_in_a_layer(outputs) == 1
    assert most_in_a_layer([*outputs, "funnel.encoder.blocks.1.0.attention.post_proj"]) == 2
    counts = {
        ("layers.0.0.to_out", "layers.0.1.net.2", "layers.1.0.to_out"): 2,  # a layer is a list of parts
        ("layers.0.0", "layers.0.2"): 2,  # or their sequence
        ("layers.0.mlp.experts.0.down", "layers.0.mlp.experts.1.down", "layers.1.mlp.experts.0.down"): 2,
        ("layers.0", "layers.1", "pooler.dense"): 1,
        (): 0,
    }
    assert {modules: most_in_a_layer(modules) for modules in counts} == counts


def test_stored_states_take_the_place_of_the_first_inner_list(funnel: PreTrainedModel) -> None:
    attach(funnel, RedConfig(target_modules=r".*blocks\.1\..*\.linear_2"))
    random_vectors(funnel)
    inputs, prefix = tiny_inputs(), frozen_prefix(funnel)
    assert prefix == stacks(funnel)[0]
    with torch.no_grad():
        expected = funnel(**inputs).logits
        way = Prefix.ways(prefix, output_of(prefix[0], lambda: funnel(**inputs)))[0]
        with skipped_layers(way, hidden_states(output_of(prefix[-1], lambda: funnel(**inputs)))):
            assert torch.equal(funnel(**inputs).logits, expected)
