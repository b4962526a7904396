"""Mixed batches in a PEFT model: each row is edited by its own adapter, and read by its head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from red_cli.edit.layer import Selection
from red_cli.errors import UserError
from red_cli.peft.layer import PeftEdit

BASE = "__base__"  # PEFT's name for a row without an adapter


@contextmanager
def adapter_of_each_row(model: nn.Module, selection: Selection, adapter_names: Sequence[str]) -> Iterator[None]:
    """Use the adapter `adapter_names[i]` of a PEFT model for row i of every batch inside the block.

    A batch may have a multiple of the rows that there are names, such as that of a beam search. An adapter without a
    module of its own at some place uses the base's there.

    Raises:
        UserError: there is no adapter of a name, or adapters are merged.
    """
    names = [None if name == BASE else name for name in adapter_names]
    layers = [module for module in model.modules() if isinstance(module, PeftEdit)]
    known = {name for layer in layers for name in layer.names()}
    if unknown := [name for name in names if name is not None and name not in known]:
        raise UserError(
            "invalid-adapter-name",
            f"no adapter {unknown[0]!r}",
            hint=f"There is: {', '.join(sorted(known))}; {BASE} for the base.",
        )
    if any(layer.merged for layer in layers):
        raise UserError("invalid-adapter-name", "merged adapters edit every row", hint="Call unmerge_adapter() first.")
    wrappers = [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
    hooks = [wrapper.register_forward_hook(partial(_of_each_row, names), with_kwargs=True) for wrapper in wrappers]
    selection.rows = names
    try:
        yield
    finally:
        selection.rows = None
        for hook in hooks:
            hook.remove()


def _of_each_row(
    names: list[str | None], wrapper: Any, inputs: tuple[Tensor, ...], options: dict[str, Any], output: Tensor
) -> Tensor:
    """The forward hook of a module of `modules_to_save`: compute each row by the copy of its own adapter."""
    if wrapper.disable_adapters:
        return output
    batch, *others = inputs
    repeats = len(batch) // len(names)
    own = [name if name in wrapper.modules_to_save else None for name in names for _ in range(repeats)]
    found: dict[str | None, Tensor] = {}
    for name in set(own):
        module = wrapper.original_module if name is None else wrapper.modules_to_save[name]
        rows = torch.tensor([row for row, wanted in enumerate(own) if wanted == name], device=batch.device)
        found[name] = module(batch[rows], *others, **options)
    dtype = reduce(torch.promote_types, [part.dtype for part in found.values()])
    answer = output.new_empty(output.shape, dtype=dtype)
    for name, part in found.items():
        rows = torch.tensor([row for row, wanted in enumerate(own) if wanted == name], device=batch.device)
        answer = answer.index_copy(0, rows, part.to(dtype))
    return answer
