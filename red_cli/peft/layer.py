"""The edits of one module as a layer of PEFT, which is a part of the module and does not wrap it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from red_cli.edit.attach import device_of
from red_cli.edit.attached_adapters import FOLDED
from red_cli.edit.fold import fold_module, foldable_parameters
from red_cli.edit.layer import RedEdit, RedVectors, Selection, Vectors, apply_edit, edit_hidden
from red_cli.errors import UserError


class VectorPair(NamedTuple):
    """The vectors of a tuner layer for one adapter, each of shape (width,); None does not exist."""

    scale: Tensor | None
    bias: Tensor | None

    def __call__(self, hidden: Tensor) -> Tensor:
        return edit_hidden(hidden, self)


class PeftEdit(RedEdit, BaseTunerLayer):
    """One module's edits by the adapters of a PEFT model. It becomes the submodule `red` of the edited module.

    PEFT names an adapter last: the vectors are the parameters `red.scale.<name>` and `red.bias.<name>`, in files
    `red.scale` and `red.bias`, which are the keys of every adapter of RED. The edited module keeps its class and its
    parameters' names, since the edit is a forward hook.

    Args:
        selection: that of the model, for batches of several adapters.
        owner: the edited module.
    """

    adapter_layer_names = ("scale", "bias")
    scale: nn.ParameterDict
    active_adapters: list[str]

    def __init__(self, selection: Selection, owner: nn.Module) -> None:
        super().__init__(selection)
        self._owner = (owner,)  # in a tuple, or it would be a submodule of its submodule
        self._hook = owner.register_forward_hook(apply_edit)
        self._kept: dict[str, Tensor | None] = {}  # the weights before merging
        self.merged_adapters: list[str] = []
        self.scale = nn.ParameterDict()
        self._modules["bias"] = nn.ParameterDict()
        owner.red = self

    @property
    def bias(self) -> nn.ParameterDict:
        """The biases by adapter; the class of PEFT has a property of this name for the module's own."""
        found = self._modules["bias"]
        assert isinstance(found, nn.ParameterDict)
        return found

    def add(self, name: str, width: int, components: Sequence[str]) -> None:
        """Add the vectors of an adapter, float32 and without effect at first."""
        vectors = RedVectors(width, components, device=device_of(self.get_base_layer()))
        for component, vector in vectors.named_parameters():
            getattr(self, component)[name] = vector

    def names(self) -> list[str]:
        return list(dict.fromkeys([*self.scale, *self.bias]))

    def vectors(self, name: str | None) -> Vectors | None:
        if name is None or name not in self.names():
            return None
        return VectorPair(self.scale.get(name), self.bias.get(name))

    def forward(self, hidden: Tensor) -> Tensor:
        """Edit `hidden` of shape (..., width) by the active adapters in turn, or each row by its own."""
        if self.disable_adapters:
            return hidden
        if self.selection.rows is not None:
            return self._edit_rows(hidden, self.selection.rows)
        if self.merged:
            return hidden
        for name in self.active_adapters:
            vectors = self.vectors(name)
            hidden = hidden if vectors is None else vectors(hidden)
        return hidden

    def get_base_layer(self) -> nn.Module:
        return self._owner[0]

    def enable_adapters(self, enabled: bool) -> None:
        if not enabled and self.merged:
            self.unmerge()
        super().enable_adapters(enabled)

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Fold adapters into the module's weights, which `unmerge` restores bit for bit.

        Raises:
            UserError: `safe_merge`, and a weight would not be finite. The module is unchanged then.
        """
        owner = self.get_base_layer()
        chosen = self.active_adapters if adapter_names is None else adapter_names
        for name in chosen:
            vectors = self.vectors(name)
            if vectors is None or name in self.merged_adapters:
                continue
            if not self.merged:
                kept = foldable_parameters(owner)
                self._kept = {key: None if value is None else value.detach().clone() for key, value in kept.items()}
            if fold_module(owner, vectors):
                owner.get_parameter("bias").requires_grad_(False)
            self.merged_adapters = [*self.merged_adapters, name]
        if safe_merge and not all(torch.isfinite(value).all() for value in foldable_parameters(owner).values()
                                  if value is not None):  # fmt: skip
            self.unmerge()
            raise UserError("value-not-finite", f"merging {', '.join(chosen)} gives weights that are not finite")

    @torch.no_grad()
    def unmerge(self) -> None:
        """Give the module its own weights back."""
        owner: Any = self.get_base_layer()
        for key, value in self._kept.items():
            if value is None:
                setattr(owner, key, None)
            else:
                owner.get_parameter(key).copy_(value)
        self._kept, self.merged_adapters = {}, []

    def remove(self) -> bool:
        """Take the layer away from its module; whether the module gained a bias by merged adapters."""
        owner, gained = self.get_base_layer(), "bias" in self._kept and self._kept["bias"] is None
        gained = gained and getattr(owner, "bias", None) is not None
        if self.merged:
            setattr(owner, FOLDED, gained or getattr(owner, FOLDED, False))
        self._hook.remove()
        del owner.red
        return gained

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """What PEFT calls after loading on the meta device."""
        target = device_of(self.get_base_layer()) if device is None else device
        for vectors in (self.scale, self.bias):
            if adapter_name in vectors and vectors[adapter_name].device.type != "meta":
                vectors[adapter_name].data = vectors[adapter_name].data.to(target)
