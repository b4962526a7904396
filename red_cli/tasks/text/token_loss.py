"""Cross-entropy of a language model, computed at labelled positions only.

Logits of every token would dominate the memory of a step: 8 rows of 512 tokens with a vocabulary of 128,000 take 2 GiB,
and as much again for each of the softmax and its gradient. Here the output layer receives the labelled positions only,
a chunk at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from red_cli.tasks.base import Prediction
from red_cli.tasks.text.encoded_texts import TextBatch
from red_cli.tasks.text.output_layer import OutputLayer, logits_and_layer

CHUNK_BYTES = 2**27  # of float32 logits at once
_CHUNKS: ContextVar[Callable[[int], int]] = ContextVar("chunks", default=lambda chunks: chunks)


@contextmanager
def synchronised_chunks(agree: Callable[[int], int]) -> Iterator[None]:
    """Inside the block, the losses of a batch take `agree(chunks)` chunks, so that all ranks run the model as often.

    Chunks that need the output layer alone, which all ranks hold, need no agreement.
    """
    token = _CHUNKS.set(agree)
    try:
        yield
    finally:
        _CHUNKS.reset(token)


def row_losses(model: nn.Module, batch: TextBatch) -> tuple[Tensor, Tensor]:
    """The sum of losses (rows,) float32 and the number of labelled tokens (rows,) of a batch of encoded texts."""
    rows = batch.inputs["input_ids"].shape[0]
    losses = losses_of(model, batch)
    sums = torch.zeros(rows, device=losses.device).index_add(0, batch.owners, losses)
    return sums, torch.bincount(batch.owners, minlength=rows)


def losses_of(model: nn.Module, batch: TextBatch) -> Tensor:
    """The loss of each labelled token of a batch of encoded texts, (labelled tokens,) float32."""
    assert batch.labels is not None
    return token_losses(model, batch.inputs, batch.positions, batch.labels.flatten()[batch.positions])


def token_losses(model: nn.Module, inputs: dict[str, Tensor], positions: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy at some positions, (positions,) float32; equal to that of all logits.

    The model runs once and makes the logits of the first chunk. Those of the others come from its output layer and what
    follows it (a bias, a scale, a soft cap); where that is not known, from the model on one token.

    Args:
        inputs: the model's inputs, tensors (rows, length).
        positions: (positions,), indices into the flattened (rows, length) of the sequence that gets logits.
        targets: (positions,), the id to predict at each position.
    """
    inner: Any = getattr(model, "module", model)
    size = max(1, CHUNK_BYTES // (4 * inner.config.get_text_config(decoder=True).vocab_size))
    hidden: list[Tensor] = []

    def keep_labelled(states: Tensor) -> Tensor:
        hidden.append(states.flatten(0, -2)[positions])
        return hidden[0][:size]

    logits, layer = logits_and_layer(model, inner, inputs, keep_labelled)
    losses = _cross_entropy(logits, targets[:size])
    del logits
    states = hidden[0]
    if layer is not None:
        return torch.cat([losses, *_losses_of_layer(layer, states[size:], targets[size:], size)])
    first_token = {name: tensor[:1, :1] for name, tensor in inputs.items()}

    def chunk_losses(states: Tensor, labels: Tensor) -> Tensor:
        """Run the model on one token, so that it computes the logits of these states in its own way."""
        return _cross_entropy(logits_and_layer(inner, inner, first_token, lambda _: states)[0], labels)

    return _losses_of_model(chunk_losses, losses, states, targets, size)


def _losses_of_layer(layer: OutputLayer, states: Tensor, targets: Tensor, size: int) -> list[Tensor]:
    """The losses of further states, in chunks of `size`, by the output layer alone."""
    if not len(states):
        return []
    chunks = list(zip(states.split(size), targets.split(size), strict=True))

    def losses_of_chunk(states: Tensor, targets: Tensor) -> Tensor:
        return _cross_entropy(layer.logits(states), targets)

    if not torch.is_grad_enabled():
        return [losses_of_chunk(*chunk) for chunk in chunks]
    recomputed = [partial(checkpoint, losses_of_chunk, *chunk, use_reentrant=False) for chunk in chunks]
    if any(parameter.requires_grad for parameter in layer.module.parameters()):
        return [losses() for losses in recomputed]
    found = []
    for chunk_states, chunk_targets in chunks:
        leaf = chunk_states.detach().requires_grad_()
        losses = losses_of_chunk(leaf, chunk_targets)
        if _needs_others(losses, leaf):  # the layer trains
            return [losses() for losses in recomputed]
        (gradients,) = torch.autograd.grad(losses.sum(), leaf)
        found.append(_LossesWithGradients.apply(chunk_states, losses.detach(), gradients))
    return found


def _needs_others(losses: Tensor, leaf: Tensor) -> bool:
    """Whether gradients of losses by an output layer reach another tensor than the layer's input states, a leaf."""
    nodes: list[Any] = [losses.grad_fn]
    while nodes:
        node = nodes.pop()
        if getattr(node, "variable", leaf) is not leaf:
            return True
        nodes += [inner for inner, _ in node.next_functions if inner is not None]
    return False


class _LossesWithGradients(torch.autograd.Function):
    """The losses of a chunk by a frozen output layer, whose gradients were computed with them.

    Each loss depends on one state alone, so its gradient times that of the loss is the state's. No logits are kept, and
    none are computed again.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, losses: Tensor, gradients: Tensor) -> Tensor:
        ctx.save_for_backward(gradients)
        return losses.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return (gradients * gradient.unsqueeze(-1)).to(gradients.dtype), None, None


def _losses_of_model(
    losses_of_chunk: Callable[[Tensor, Tensor], Tensor], first: Tensor, states: Tensor, targets: Tensor, size: int
) -> Tensor:
    """All losses, with those of the chunks after the first by the model; they are recomputed in the backward pass.

    Args:
        first: the losses of the first chunk.
    """
    losses = [first]
    recompute = torch.is_grad_enabled()
    for number in range(1, _CHUNKS.get()(max(1, -(-len(states) // size)))):
        here = slice(number * size, (number + 1) * size)
        own = number * size < len(states)
        chunk = (states[here], targets[here]) if own else (states[:1], targets[:1])
        found = checkpoint(losses_of_chunk, *chunk, use_reentrant=False) if recompute else losses_of_chunk(*chunk)
        if own:
            losses.append(found)
        else:  # another rank's chunk: it needs this rank's forward and backward pass, which count 0
            losses[0] = losses[0] + 0.0 * found.sum()
    return torch.cat(losses)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each labelled token, in float32."""
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def mean_loss(predictions: Sequence[Prediction]) -> float:
    """The mean loss of a token, a cross-entropy, over all predictions that have a loss."""
    losses = [(answer.loss, answer.tokens) for answer in predictions if answer.loss is not None]
    return math.fsum(loss for loss, _ in losses) / sum(tokens or 0 for _, tokens in losses)
