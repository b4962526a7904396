"""The edit: two vectors after a module's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from red_cli.errors import UserError


class Vectors(nn.Module):
    """One adapter's two vectors for one module: h -> scale * h + bias, equation (3) of arXiv 2402.15179.

    Both are float32 parameters of shape (width,), whatever the dtype of h: in bfloat16 the neighbours of 1.0 lie 0.004
    to 0.008 away, so a scale kept there would round every usual optimiser step away. The identity at the start.

    Args:
        width: d, the size of the last dimension of h.
        components: "scale", "bias" or both; the other vector does not exist.
        device: where the vectors live (the edited module's device).
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
        """Edit `hidden` of shape (..., width); the result has its dtype: the vectors are cast, not the activations."""
        if self.scale is not None and self.bias is not None:
            return torch.addcmul(self.bias.to(hidden.dtype), hidden, self.scale.to(hidden.dtype))
        if self.scale is not None:
            return hidden * self.scale.to(hidden.dtype)
        assert self.bias is not None
        return hidden + self.bias.to(hidden.dtype)

    def extra_repr(self) -> str:
        return f"width={self.width}, components={[name for name, _ in self.named_parameters()]}"


@dataclass
class Selection:
    """Which adapter edits: one for all rows, none, or one for each row. All edits of a model share one selection."""

    active: str | None = None
    rows: list[str | None] | None = field(default=None, repr=False)


class RedEdit(nn.Module):
    """The edits of one module, by adapter name; becomes the submodule `red` of the module it follows."""

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection

    def vectors(self, name: str | None) -> Vectors | None:
        """The vectors of an adapter, or None where it does not edit this module."""
        found = self._modules.get(name) if name is not None else None
        return found if isinstance(found, Vectors) else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Edit `hidden` of shape (..., width) as the selection says."""
        if self.selection.rows is not None:
            return self._edit_rows(hidden, self.selection.rows)
        vectors = self.vectors(self.selection.active)
        return hidden if vectors is None else vectors(hidden)

    def _edit_rows(self, hidden: Tensor, rows: list[str | None]) -> Tensor:
        """Edit each row of the batch with its own adapter: one table of all adapters' vectors, one gather."""
        if hidden.shape[0] % len(rows):
            raise UserError(f"{len(rows)} adapter names for a batch of {hidden.shape[0]} rows")
        names = [None, *self._modules]
        width = hidden.shape[-1]
        ones, zeros = hidden.new_ones(width), hidden.new_zeros(width)
        table = torch.stack([tensor for name in names for tensor in self._pair(name, ones, zeros)])
        # A batch may have more rows than names: beams of one input, or tokens laid out in one dimension.
        repeats = hidden.shape[0] // len(rows)
        place = {name: index for index, name in enumerate(names)}
        indices = [place.get(name, 0) for name in rows for _ in range(repeats)]
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
    """The forward hook of an edited module. A plain function, so that models stay copyable and picklable."""
    edit: RedEdit = module.red  # type: ignore[assignment]
    return edit(output)


def cast_to_float32(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The forward pre-hook of a head that is float32 on a base that is not."""
    return tuple(
        value.float() if isinstance(value, Tensor) and value.is_floating_point() else value for value in inputs
    )
