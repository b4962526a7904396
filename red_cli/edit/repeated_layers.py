"""Find a model's repeated layers, and the FFN outputs of architectures that the table does not have."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

_ATTENTION_INPUTS = 3  # query, key and value
_IN_LAYER = re.compile(r"(.*?\.\d+)\.(?:\d+\.)*(.*)")  # the path of a module -> that of its layer, its name in it


def search_ffn_outputs(model: PreTrainedModel) -> list[str]:
    """The paths of the modules that look like FFN outputs, found by the shapes in repeated layers.

    An FFN output projects from a wider space to the input width of another projection of the same layer, whose output
    is the wider space (or twice that, where gate and up are fused). Attention is recognised by three projections with
    the same input under one parent. A child with three-dimensional weights is a mixture of experts; its own output is
    then the FFN output.
    """
    paths = []
    for path, block in _repeated_blocks(model):
        found = [f"{path}.{inner}" for inner in _ffn_outputs(block)]
        paths += found or [f"{path}.{name}" for name, child in block.named_children() if _holds_experts(child)]
    return paths


def _repeated_blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, layer) of every outermost list of modules whose members have projections."""
    seen: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(path.startswith(f"{outer}.") for outer in seen):
            blocks = [(f"{path}.{number}", block) for number, block in enumerate(module)]
            if any(_projections(block) for _, block in blocks):
                seen.append(path)
                yield from blocks


def _ffn_outputs(block: nn.Module) -> list[str]:
    """The projections in a layer that look like FFN outputs by their shapes."""
    projections = _projections(block)
    by_parent: dict[str, list[tuple[int, int]]] = {}
    for name, shape in projections.items():
        by_parent.setdefault(name.rpartition(".")[0], []).append(shape)

    def is_attention(name: str) -> bool:
        shapes = by_parent[name.rpartition(".")[0]]
        return sum(1 for inner, _ in shapes if inner == projections[name][1]) >= _ATTENTION_INPUTS

    found = []
    for name, (inner, outer) in projections.items():
        fed_by = [shape for shape in projections.values() if shape in ((outer, inner), (outer, 2 * inner))]
        if inner > outer and fed_by and not is_attention(name):
            found.append(name)
    return found


def _projections(block: nn.Module) -> dict[str, tuple[int, int]]:
    """The projections of a repeated layer: path -> (input width, output width)."""
    found = {}
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear):
            found[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            found[name] = (module.nx, module.nf)
    return found


def _holds_experts(module: nn.Module) -> bool:
    """Whether a module of a repeated layer has three-dimensional parameters, as stacked experts have."""
    return any(parameter.dim() == 3 for parameter in module.parameters())


def blocks(model: nn.Module) -> list[nn.Module]:
    """A model's repeated layers: the members of its outermost module lists, and of lists in these."""
    return [block for stack in stacks(model) for block in stack]


def stacks(model: nn.Module) -> list[list[nn.Module]]:
    """A model's repeated layers by the module list that holds them, such as an encoder's and a decoder's.

    In a list of lists, as Funnel has, each inner list is a stack: no list has a forward pass of its own.
    """
    found: list[list[nn.Module]] = []

    def look(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList):
                take(child)
            else:
                look(child)

    def take(layers: nn.ModuleList) -> None:
        found.append([block for block in layers if not isinstance(block, nn.ModuleList) and _has_parameters(block)])
        for inner in layers:
            if isinstance(inner, nn.ModuleList):
                take(inner)

    look(model)
    return [stack for stack in found if stack]


def _has_parameters(module: nn.Module) -> bool:
    """Whether a repeated layer has any parameters."""
    return next(module.parameters(), None) is not None


def most_in_a_layer(modules: Sequence[str]) -> int:
    """The most modules in one of the repeated layers; a layer is a path up to its first number.

    Of a list of lists that path is a list of layers, and the next number is the layer. Their modules have the same
    names, so each name counts once; those of a layer that is itself a list of parts have different ones.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for path in modules:
        layer, name = match.groups() if (match := _IN_LAYER.fullmatch(path)) else (path, path)
        names[layer].add(name)
    return max(map(len, names.values()), default=0)


def replace_forward(block: nn.Module, forward: Callable[..., Any], undo: ExitStack) -> None:
    """Have a layer run `forward` in place of its own; `undo` restores it."""
    own, real = "forward" in vars(block), block.forward

    def restore() -> None:
        if own:
            block.forward = real
        else:
            del block.forward

    block.forward = forward
    undo.callback(restore)
