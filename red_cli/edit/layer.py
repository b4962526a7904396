"""The edit: two vectors after a module's output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class RedEdit(nn.Module):
    """h -> scale * h + bias, equation (3) of arXiv 2402.15179; the identity at the start.

    Both vectors are float32 parameters of shape (width,), whatever the dtype of h: in bfloat16 the neighbours of 1.0
    lie 0.004 to 0.008 away, so a scale kept there would round every usual optimiser step away.

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


def apply_edit(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """The forward hook of an edited module. A plain function, so that models stay copyable and picklable."""
    edit: RedEdit = module.red  # type: ignore[assignment]
    return edit(output)
