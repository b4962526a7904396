"""The layers that a model repeats."""

from __future__ import annotations

from torch import nn


def blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that a model repeats: what its outermost lists of modules hold."""
    found: list[nn.Module] = []

    def look(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList):
                found.extend(child)
            else:
                look(child)

    look(model)
    return [block for block in found if _has_parameters(block)]


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
