"""Cross-entropy of a language model where there are labels, and nowhere else.

Logits of every token would decide the memory of a step: 8 rows of 512 tokens with a vocabulary of 128,000 are 2 GiB,
and as much again for each of the softmax and its gradient. Here the output layer is given the labelled positions alone,
and of those a piece at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

IGNORED = -100  # the label of a position where nothing is to be predicted
PIECE_BYTES = 2**27  # float32 logits at once
_PIECES: ContextVar[Callable[[int], int]] = ContextVar("pieces", default=lambda pieces: pieces)


@contextmanager
def synchronised_chunks(agree: Callable[[int], int]) -> Iterator[None]:
    """Inside the block a batch takes `agree(pieces)` of them: processes that hold parts of a model take as many."""
    token = _PIECES.set(agree)
    try:
        yield
    finally:
        _PIECES.reset(token)


def token_losses(model: nn.Module, inputs: dict[str, Tensor], positions: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of a language model at some positions, (positions,) float32; exactly that of all logits.

    What the output layer is fed is swapped by a hook, so all that a model does to its logits afterwards (a bias, a
    scale, a soft cap) is done by the model itself. Pieces after the first are computed again in the backward pass.

    Args:
        inputs: of the model; tensors (rows, length).
        positions: (positions,), indices into the flattened (rows, length) of the sequence that gets logits.
        targets: (positions,), the id to predict at each.
    """
    inner: Any = getattr(model, "module", model)
    size = max(1, PIECE_BYTES // (4 * inner.config.get_text_config(decoder=True).vocab_size))
    hidden: list[Tensor] = []

    def keep_labelled(states: Tensor) -> Tensor:
        hidden.append(states.flatten(0, -2)[positions])
        return hidden[0][:size]

    logits = _logits(model, inner, inputs, keep_labelled)
    losses = [_cross_entropy(logits, targets[:size])]
    first_token = {name: tensor[:1, :1] for name, tensor in inputs.items()}

    def piece_losses(states: Tensor, labels: Tensor) -> Tensor:
        """The model runs on one token, so that it finishes the logits of these states in its own way."""
        return _cross_entropy(_logits(inner, inner, first_token, lambda _: states), labels)

    again = torch.is_grad_enabled()
    for number in range(1, _PIECES.get()(max(1, -(-len(positions) // size)))):
        here = slice(number * size, (number + 1) * size)
        own = number * size < len(positions)
        piece = (hidden[0][here], targets[here]) if own else (hidden[0][:1], targets[:1])
        found = checkpoint(piece_losses, *piece, use_reentrant=False) if again else piece_losses(*piece)
        if own:
            losses.append(found)
        else:  # another process's piece: gone through with it, forwards and backwards, and not counted
            losses[0] = losses[0] + 0.0 * found.sum()
    return torch.cat(losses)


def _logits(model: nn.Module, inner: Any, inputs: dict[str, Tensor], swap: Any) -> Tensor:
    """The model's logits, (states, vocabulary), of what `swap` makes of the states that reach its output layer."""

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (swap(arguments[0]).unsqueeze(0), *arguments[1:])

    handle = inner.get_output_embeddings().register_forward_pre_hook(hook)
    try:
        return model(**inputs, use_cache=False).logits.flatten(0, -2)
    finally:
        handle.remove()


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), targets, reduction="none")
