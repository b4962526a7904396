"""The spread of the edited modules' outputs: its numbers, and that measuring it changes nothing."""

from __future__ import annotations

import pytest
import torch

from red_cli import RedConfig, attach, detach
from red_cli.edit.attached_adapters import edits
from red_cli.train.output_spread import measure_output_spread
from tests.tiny import tiny_model


@pytest.mark.parametrize("model_type", ["bert", "llama"])
def test_it_is_that_of_the_output_before_the_edit(model_type: str) -> None:
    model = tiny_model(model_type).train()
    paths = attach(model, RedConfig(positions=["attn"], layers=[0]))
    with torch.no_grad():
        for _, edit in edits(model):
            for vector in edit.parameters():
                vector.add_(0.7)
    ids = torch.tensor([[5, 6, 7, 8, 9, 4]])
    state = torch.get_rng_state()
    tokens, spreads = measure_output_spread(model, paths, lambda: model(ids))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert tokens == 6
    outputs = []
    detach(model)  # layer 0 is the first edit: without it, its own output is the same
    model.eval().get_submodule(paths[0]).register_forward_hook(lambda module, inputs, output: outputs.append(output))
    model(ids)
    by_hand = outputs[0].detach().double().reshape(6, -1).std(dim=0, correction=0).median()
    assert spreads == {paths[0]: pytest.approx(float(by_hand))}
