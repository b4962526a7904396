"""The loss at labelled positions equals that of all logits, for every architecture that generates text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate.utils.operations import convert_outputs_to_fp32
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from red_cli import RedConfig, attach
from red_cli.tasks.text import token_loss
from red_cli.tasks.text.encoded_texts import IGNORED
from red_cli.tasks.text.output_layer import logits_and_layer
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
    runs = []
    model.register_forward_hook(lambda *_: runs.append(1))
    losses = token_losses(model, inputs, positions, labels.flatten()[positions])
    assert losses.shape == positions.shape
    gradients = torch.autograd.grad(losses.sum(), trained)
    assert len(runs) == 1  # however many chunks
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


def autocast(forward: Callable[..., Any], precision: torch.dtype) -> Callable[..., Any]:
    """The forward pass in mixed precision, as Accelerate makes it."""
    inside = torch.autocast("cpu", precision, enabled=precision != torch.float32)(forward)
    return convert_outputs_to_fp32(inside) if precision != torch.float32 else forward


def scaled(logits: torch.Tensor) -> torch.Tensor:
    return logits.mul_(0.5)


def without_first(logits: torch.Tensor) -> torch.Tensor:
    logits[..., 0] = -30.0
    return logits


def ruled_out(logits: torch.Tensor) -> torch.Tensor:
    return logits.masked_fill(torch.arange(logits.shape[-1]) == 0, -30.0)


@pytest.mark.parametrize("finish", [scaled, without_first, ruled_out])
def test_the_model_itself_makes_logits_in_ways_that_are_not_known(
    finish: Callable[[torch.Tensor], torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_loss, "CHUNK_BYTES", 3 * 4 * len(VOCABULARY))
    model = tiny_model("llama")
    own = model.forward
    runs = []

    def forward(**inputs: Any) -> Any:
        runs.append(1)
        output = own(**inputs)
        output.logits = finish(output.logits)
        return output

    monkeypatch.setattr(model, "forward", forward)
    inputs, labels = labelled_inputs("llama")
    positions = (labels.flatten() != IGNORED).nonzero().flatten()
    targets = labels.flatten()[positions]
    expected = functional.cross_entropy(model(**inputs).logits.flatten(0, 1)[positions], targets, reduction="none")
    with torch.no_grad():
        torch.testing.assert_close(token_losses(model, inputs, positions, targets), expected)
    assert len(runs) == 1 + -(-len(positions) // 3)


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "bart"])
def test_what_differs_between_positions_is_not_known(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(model_type, **FINISHES.get(model_type, {}))
    own = model.forward
    found = []
    for factor in (torch.tensor(0.5), torch.rand(len(VOCABULARY)), torch.rand(5, 1)):

        def forward(*, factor: torch.Tensor = factor, **inputs: Any) -> Any:
            output = own(**inputs)
            output.logits = output.logits * factor
            return output

        monkeypatch.setattr(model, "forward", forward)
        inputs = tiny_inputs(model_type)
        _, layer = logits_and_layer(model, model, inputs, lambda states: states.flatten(0, -2)[:5])
        found.append(layer is not None)
    assert found == [True, True, False]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trains", ["all", "edits"])
@pytest.mark.parametrize("model_type", ["gpt2", "cohere"])
def test_chunks_change_no_gradient(
    model_type: str, trains: str, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the output layer trains or not, and under mixed precision; the losses count differently."""
    model = tiny_model(model_type, **FINISHES.get(model_type, {}))
    if trains == "edits":
        attach(model, RedConfig(positions=["ffn"]))
        random_vectors(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inputs, labels = labelled_inputs(model_type)
    positions = (labels.flatten() != IGNORED).nonzero().flatten()
    weights = torch.rand(len(positions))
    results = []
    for states_at_once in (1000, 3):
        monkeypatch.setattr(token_loss, "CHUNK_BYTES", states_at_once * 4 * len(VOCABULARY))
        model.forward = autocast(type(model).forward, precision).__get__(model)
        losses = token_losses(model, inputs, positions, labels.flatten()[positions])
        results.append((losses, *torch.autograd.grad((losses * weights).sum(), trained)))
    close = {"rtol": 1e-5, "atol": 1e-6} if precision == torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(results[1], results[0], **close)
