"""The edit itself: a scale and a bias vector applied to a module's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from red_cli.errors import UserError


class Vectors(Protocol):
    """The layer's vectors for one module, each of shape (width,); a vector that is None does not exist."""

    @property
    def scale(self) -> Tensor | None:
        """What the output is multiplied by."""

    @property
    def bias(self) -> Tensor | None:
        """What is added to the product."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """Edit `hidden` of shape (..., width)."""


class RedVectors(nn.Module):
    """One adapter's two vectors for one module: h -> scale * h + bias, equation (3) of arXiv 2402.15179.

    Both are float32 parameters of shape (width,), whatever the dtype of h. In bfloat16 the neighbours of 1.0 are 0.004
    to 0.008 away, so a bfloat16 scale would round the usual optimiser steps to nothing. They start as the identity.

    Args:
        width: d, the size of the last dimension of h.
        components: "scale", "bias" or both; a vector that is not named does not exist.
        device: the device of the vectors, which is the edited module's.
    """

    scale: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, width: int, components: Sequence[str], device: torch.device | str | None = None) -> None:
        super().__init__()
        start = {"scale": torch.ones, "bias": torch.zeros}
        for component, make in start.items():
            vector = None
            if component in components:
                vector = nn.Parameter(make(width, dtype=torch.float32, device=device))
            self.register_parameter(component, vector)
        self.width = width

    def forward(self, hidden: Tensor) -> Tensor:
        """Edit `hidden` of shape (..., width). The vectors are cast to its dtype; the activations are not cast."""
        return edit_hidden(hidden, self)

    def extra_repr(self) -> str:
        return f"width={self.width}, components={[name for name, _ in self.named_parameters()]}"


def edit_hidden(hidden: Tensor, vectors: Vectors) -> Tensor:
    """The edit of `hidden` of shape (..., width), equation (3); the vectors are cast to its dtype."""
    if vectors.scale is not None and vectors.bias is not None:
        return torch.addcmul(vectors.bias.to(hidden.dtype), hidden, vectors.scale.to(hidden.dtype))
    if vectors.scale is not None:
        return hidden * vectors.scale.to(hidden.dtype)
    assert vectors.bias is not None
    return hidden + vectors.bias.to(hidden.dtype)


@dataclass
class Selection:
    """The active adapter for all rows (None: no adapter), or one for each row. A model's edits share one selection."""

    active: str | None = None
    rows: list[str | None] | None = field(default=None, repr=False)


class RedEdit(nn.Module):
    """One module's edits by adapter name. It becomes the submodule `red` of the edited module."""

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection

    def names(self) -> list[str]:
        """The names of the adapters that edit this module."""
        return list(self._modules)

    def vectors(self, name: str | None) -> Vectors | None:
        """The vectors of an adapter, or None if it does not edit this module."""
        found = self._modules.get(name) if name is not None else None
        return found if isinstance(found, RedVectors) else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Edit `hidden` of shape (..., width) with the selected adapters."""
        if self.selection.rows is not None:
            return self._edit_rows(hidden, self.selection.rows)
        vectors = self.vectors(self.selection.active)
        return hidden if vectors is None else vectors(hidden)

    def _edit_rows(self, hidden: Tensor, rows: list[str | None]) -> Tensor:
        """Edit each row of the batch with its own adapter, by one gather from a table of all adapters' vectors."""
        if hidden.shape[0] % len(rows):
            raise UserError("invalid-adapter-name", f"{len(rows)} adapter names for a batch of {hidden.shape[0]} rows")
        names = [None, *self.names()]
        width = hidden.shape[-1]
        ones, zeros = hidden.new_ones(width), hidden.new_zeros(width)
        table = torch.stack([tensor for name in names for tensor in self._pair(name, ones, zeros)])
        # A batch has more rows than names where an input has several beams, or tokens are in the first dimension
        repeats = hidden.shape[0] // len(rows)
        index_of = {name: index for index, name in enumerate(names)}
        indices = [index_of.get(name, 0) for name in rows for _ in range(repeats)]
        chosen = table.view(len(names), 2, width)[torch.tensor(indices, device=hidden.device)]
        shape = (hidden.shape[0], *(1 for _ in hidden.shape[1:-1]), width)
        return torch.addcmul(chosen[:, 1].view(shape), hidden, chosen[:, 0].view(shape))

    def _pair(self, name: str | None, ones: Tensor, zeros: Tensor) -> tuple[Tensor, Tensor]:
        vectors = self.vectors(name)
        if vectors is None:
            return ones, zeros
        scale = ones if vectors.scale is None else vectors.scale.to(ones.dtype)
        bias = zeros if vectors.bias is None else vectors.bias.to(zeros.dtype)
        return scale, bias


def apply_edit(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """The forward hook of an edited module; a plain function, so that models can be copied and pickled."""
    edit: RedEdit = module.red  # type: ignore[assignment]
    return edit(output)
