"""The loss at labelled positions equals that of all logits, for every architecture that generates text."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from red_cli import RedConfig, attach
from red_cli.tasks.text import token_loss
from red_cli.tasks.text.encoded_texts import IGNORED
from red_cli.tasks.text.token_loss import token_losses
from tests.tiny import DECODERS, SEQ2SEQ, VOCABULARY, random_vectors, tiny_inputs, tiny_model

# what these do to their logits after the output layer
FINISHES = {
    "gemma2": {"final_logit_softcapping": 1.5},
    "gemma3_text": {"final_logit_softcapping": 1.5},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.3},
}


class LargestLogits(TorchDispatchMode):
    """Records the most positions that had logits at once."""

    positions = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        output = function(*arguments, **(options or {}))
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if function is torch.ops.aten.t.default:  # of the output layer's weight
                continue
            if isinstance(tensor, torch.Tensor) and tensor.dim() > 1 and tensor.shape[-1] == len(VOCABULARY):
                self.positions = max(self.positions, tensor.numel() // len(VOCABULARY))
        return output


def labelled_inputs(model_type: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Inputs, and labels aligned to the positions that predict them."""
    inputs = tiny_inputs(model_type)
    ids = inputs.get("decoder_input_ids", inputs["input_ids"])
    labels = ids.roll(-1, 1)
    labels[:, -1] = IGNORED
    labels[:, :3] = IGNORED
    labels[0, 4:] = IGNORED
    return inputs, labels


@pytest.mark.parametrize("model_type", [*DECODERS, *SEQ2SEQ])
@pytest.mark.parametrize("states_at_once", [1000, 3])
def test_equals_the_loss_of_all_logits(model_type: str, states_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loss, "CHUNK_BYTES", states_at_once * 4 * len(VOCABULARY))
    model = tiny_model(model_type, **FINISHES.get(model_type, {}))
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias += torch.randn(len(VOCABULARY))
    attach(model, RedConfig(positions=["ffn"]))
    random_vectors(model)
    inputs, labels = labelled_inputs(model_type)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    logits = model(**inputs).logits.flatten(0, 1)
    expected = functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    expected_gradients = torch.autograd.grad(expected, trained)
    positions = (labels.flatten() != IGNORED).nonzero().flatten()
    losses = token_losses(model, inputs, positions, labels.flatten()[positions])
    assert losses.shape == positions.shape
    gradients = torch.autograd.grad(losses.sum(), trained)
    torch.testing.assert_close(losses.sum(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(token_losses(model, inputs, positions, labels.flatten()[positions]), losses)


@pytest.mark.parametrize("model_type", ["gpt2", "t5"])
@pytest.mark.parametrize("states_at_once", [1000, 4])
def test_there_are_no_logits_elsewhere(model_type: str, states_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loss, "CHUNK_BYTES", states_at_once * 4 * len(VOCABULARY))
    model = tiny_model(model_type)
    attach(model, RedConfig(positions=["ffn"]))
    inputs, labels = labelled_inputs(model_type)
    positions = (labels.flatten() != IGNORED).nonzero().flatten()[:7]
    with LargestLogits() as largest:
        token_losses(model, inputs, positions, labels.flatten()[positions]).sum().backward()
    assert largest.positions == min(len(positions), states_at_once) < labels.numel() / 2
