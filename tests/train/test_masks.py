"""What the table of architectures says of masks: outputs without one, and what a model then reads from its device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from red_cli.edit.architectures import ARCHITECTURES
from red_cli.tasks.base import MASK, Batch
from tests.tiny import CONFIGS, first_output, tiny_inputs, tiny_model


class Reads(TorchDispatchMode):
    """Counts the numbers that the host reads."""

    count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.count += operator is torch.ops.aten._local_scalar_dense.default
        return operator(*arguments, **(options or {}))


def outcome(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Outputs in training mode, the gradients of their squares, and the reads of the forward pass."""
    model.zero_grad()
    torch.manual_seed(0)
    with Reads() as reads:
        output = first_output(model, inputs)
    output.square().mean().backward()
    return output, [each.grad for each in model.parameters() if each.grad is not None], reads.count


@pytest.mark.parametrize("model_type", [name for name in CONFIGS if MASK in tiny_inputs(name)])
def test_a_batch_without_padding_needs_no_mask(model_type: str) -> None:
    model, inputs = tiny_model(model_type).train(), tiny_inputs(model_type)
    batch = Batch(inputs, None, weight=4)
    assert batch.without_full_mask() is batch  # its first row is padded
    inputs[MASK] = torch.ones_like(inputs[MASK])
    output, gradients, reads = outcome(model, inputs)
    bare = batch.without_full_mask().inputs
    assert bare.keys() == inputs.keys() - {MASK}
    bare_output, bare_gradients, bare_reads = outcome(model, bare)
    assert torch.equal(bare_output, output)
    assert all(map(torch.equal, bare_gradients, gradients))
    assert len(bare_gradients) == len(gradients)
    if ARCHITECTURES[model_type].looks_for_padding:
        assert bare_reads >= reads
    else:
        assert bare_reads <= reads
