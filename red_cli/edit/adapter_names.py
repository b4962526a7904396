"""Mixed batches: each row is edited by its own adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from red_cli.edit.attached_adapters import Attachment, require_attachment
from red_cli.errors import UserError


@contextmanager
def adapter_rows(model: nn.Module, adapter_names: Sequence[str | None]) -> Iterator[None]:
    """Edit row i of every batch inside the block with the adapter `adapter_names[i]` and its head.

    None means the plain base. A batch may have a multiple of the rows that there are names. This is for inference: the
    heads of inactive adapters get no gradients.

    Raises:
        UserError: the model has no edits or no adapter of a name, or a batch does not match the names.
    """
    attached, names = require_attachment(model), list(adapter_names)
    if unknown := [name for name in names if name is not None and name not in attached.adapters]:
        raise UserError(
            "invalid-adapter-name", f"no adapter {unknown[0]!r}", hint=f"There is: {', '.join(attached.adapters)}"
        )
    owners = {key.rpartition(".")[0] for adapter in attached.adapters.values() for key in adapter.head}
    hooks = [model.get_submodule(owner).register_forward_hook(_head_hook(attached, owner, names)) for owner in owners]
    attached.selection.rows = names
    try:
        yield
    finally:
        attached.selection.rows = None
        for hook in hooks:
            hook.remove()


def push_adapter_names(model: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The model's forward pre-hook: start `adapter_rows` for a call with `adapter_names=[…]`."""
    names = options.pop("adapter_names", None)
    if names is None:
        return None
    attached = require_attachment(model)
    attached.rows = adapter_rows(model, names)
    attached.rows.__enter__()
    return inputs, options


def pop_adapter_names(model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    """The model's forward hook, called after errors too: end what `push_adapter_names` started."""
    attached = require_attachment(model)
    if attached.rows is not None:
        attached.rows.__exit__(None, None, None)
        attached.rows = None


def _head_hook(attached: Attachment, owner: str, names: list[str | None]) -> Any:
    """A forward hook for a module of the head that recomputes rows with their own adapter's parameters."""
    busy = False

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        nonlocal busy
        if busy:
            return None
        busy = True
        try:
            answer = output.clone()
            for name in set(names) - {attached.selection.active}:
                values = _head_values(attached, owner, name)
                rows = [row for row, wanted in enumerate(names) if wanted == name]
                if values:
                    chosen = torch.tensor(rows, device=output.device)
                    answer[chosen] = functional_call(module, values, (inputs[0][chosen],))
            return answer
        finally:
            busy = False

    return hook


def _head_values(attached: Attachment, owner: str, name: str | None) -> dict[str, Tensor]:
    """The tensors of one head module for the rows of an adapter; those of the base where it has none."""
    stored = attached.base_head if name is None else {**attached.base_head, **attached.adapters[name].head}
    return {key.rpartition(".")[2]: value for key, value in stored.items() if key.rpartition(".")[0] == owner}
