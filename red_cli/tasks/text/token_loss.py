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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from red_cli.tasks.base import Prediction
from red_cli.tasks.text.encoded_texts import TextBatch

CHUNK_BYTES = 2**27  # of float32 logits at once
_CHUNKS: ContextVar[Callable[[int], int]] = ContextVar("chunks", default=lambda chunks: chunks)


@contextmanager
def synchronised_chunks(agree: Callable[[int], int]) -> Iterator[None]:
    """Inside the block token losses take `agree(chunks)` chunks of a batch, so that all ranks take as many."""
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

    A hook replaces the input of the output layer, so that the model itself does all that it does to logits afterwards
    (a bias, a scale, a soft cap). Chunks after the first are recomputed in the backward pass.

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

    logits = _logits(model, inner, inputs, keep_labelled)
    losses = [_cross_entropy(logits, targets[:size])]
    first_token = {name: tensor[:1, :1] for name, tensor in inputs.items()}

    def chunk_losses(states: Tensor, labels: Tensor) -> Tensor:
        """Run the model on one token, so that it computes the logits of these states in its own way."""
        return _cross_entropy(_logits(inner, inner, first_token, lambda _: states), labels)

    recompute = torch.is_grad_enabled()
    for number in range(1, _CHUNKS.get()(max(1, -(-len(positions) // size)))):
        here = slice(number * size, (number + 1) * size)
        own = number * size < len(positions)
        chunk = (hidden[0][here], targets[here]) if own else (hidden[0][:1], targets[:1])
        found = checkpoint(chunk_losses, *chunk, use_reentrant=False) if recompute else chunk_losses(*chunk)
        if own:
            losses.append(found)
        else:  # another rank's chunk: it needs this rank's forward and backward pass, which count 0
            losses[0] = losses[0] + 0.0 * found.sum()
    return torch.cat(losses)


def _logits(model: nn.Module, inner: Any, inputs: dict[str, Tensor], swap: Any) -> Tensor:
    """The model's logits, (states, vocabulary), for `swap(states)` instead of the output layer's input states."""

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (swap(arguments[0]).unsqueeze(0), *arguments[1:])

    handle = inner.get_output_embeddings().register_forward_pre_hook(hook)
    try:
        return model(**inputs, use_cache=False).logits.flatten(0, -2)
    finally:
        handle.remove()


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each labelled token, in float32."""
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def mean_loss(predictions: Sequence[Prediction]) -> float:
    """The mean loss of a token, a cross-entropy, over all predictions that have a loss."""
    losses = [(answer.loss, answer.tokens) for answer in predictions if answer.loss is not None]
    return math.fsum(loss for loss, _ in losses) / sum(tokens or 0 for _, tokens in losses)
