"""RED's tuner in PEFT: attach, switch, mix and merge adapters of a PEFT model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from transformers import PreTrainedModel

from red_cli.edit.fold import require_foldable
from red_cli.edit.layer import Selection, Vectors
from red_cli.edit.save_pretrained import save_if_declared
from red_cli.errors import UserError
from red_cli.peft.adapter_of_each_row import adapter_of_each_row
from red_cli.peft.base import Base
from red_cli.peft.config import RedConfig
from red_cli.peft.fit import fit
from red_cli.peft.heads import float32_heads, head_dtypes, require_loading_of_heads, restore_head_dtypes
from red_cli.peft.layer import PeftEdit
from red_cli.peft.merge import declare_biases, name_labels
from red_cli.peft.registration import PREFIX


class RedModel(BaseTuner):
    """A model with edits by PEFT; PEFT makes it, in `get_peft_model` and `PeftModel.from_pretrained`."""

    prefix = PREFIX
    tuner_layer_cls = PeftEdit
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - `positions` are found by `edit/targets.py`

    def __init__(
        self,
        model: PreTrainedModel,
        peft_config: RedConfig | dict[str, RedConfig],
        adapter_name: str,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, torch.Tensor] | None = None,
    ) -> None:
        if isinstance(peft_config, RedConfig):  # from transformers' own loading; PEFT's models hand over a dictionary
            require_loading_of_heads(peft_config, model)
            peft_config.loaded_by_transformers = True
        super().__init__(model, peft_config, adapter_name, low_cpu_mem_usage, state_dict)

    def inject_adapter(
        self,
        model: PreTrainedModel,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Attach an adapter; vectors and trained modules are float32 whatever `autocast_adapter_dtype` is.

        Raises:
            UserError: what `red_cli.peft.fit.fit` raises. The model is unchanged then.
        """
        if "selection" not in vars(self):
            before = [config.attached for config in self.peft_config.values() if config.attached is not None]
            present = [*self._layers().values()]
            self.selection = present[0].selection if present else Selection()
            self.base = before[0].base if present and before else Base.of(model)
        fit(self.peft_config[adapter_name], model, self.base)
        super().inject_adapter(model, adapter_name, low_cpu_mem_usage=low_cpu_mem_usage)
        float32_heads(model, adapter_name)

    def _prepare_adapter_config(self, peft_config: RedConfig, model_config: dict[str, Any]) -> RedConfig:
        return peft_config

    @staticmethod
    def _check_target_module_exists(peft_config: RedConfig, key: str) -> bool:
        assert peft_config.attached is not None
        return key in peft_config.attached.widths

    def _create_and_replace(
        self,
        peft_config: RedConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        """Add an adapter's vectors to one module; the module stays where it is."""
        assert peft_config.attached is not None
        layer = getattr(target, "red", None) or PeftEdit(self.selection, target)
        layer.add(adapter_name, peft_config.attached.widths[current_key], peft_config.components)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """What PEFT enters around `forward` and `generate`."""
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        with adapter_of_each_row(self.model, self.selection, names):
            yield

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Fold adapters into the weights until `unmerge_adapter`, which restores them bit for bit.

        Raises:
            UserError: a module cannot hold its edit, or the head is that of another adapter. The model is unchanged
                then.
        """
        self._require_mergeable(adapter_names)
        with self._all_or_none():
            super().merge_adapter(adapter_names=adapter_names, safe_merge=safe_merge)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> Any:
        """Take the edits away, folded into the weights or not, and declare biases that modules gained.

        Raises:
            UserError: a module cannot hold its edit, or the head is that of another adapter. The model is unchanged
                then.
        """
        if merge:
            self._require_mergeable(adapter_names)
        chosen = self.active_adapters if adapter_names is None else adapter_names
        records = [self.peft_config[name].record for name in chosen]
        dtypes, gained = head_dtypes(self.model), []
        with self._all_or_none():
            for layer in self._layers().values():
                if merge:
                    layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)
                else:
                    layer.unmerge()
        for path, layer in self._layers().items():
            if layer.remove():
                gained.append(path)
        model = super()._unload_and_optionally_merge(
            merge=merge, progressbar=progressbar, safe_merge=safe_merge, adapter_names=adapter_names
        )
        restore_head_dtypes(model, dtypes)
        if merge:
            declare_biases(model, gained)
            for record in records:
                name_labels(model, None if record is None else record.label_names)
            save_if_declared(model)
        return model

    def _layers(self) -> dict[str, PeftEdit]:
        """The layers by the path of the edited module."""
        found = {path: module for path, module in self.model.named_modules() if isinstance(module, PeftEdit)}
        return {path.removesuffix(".red"): layer for path, layer in found.items()}

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """Give every layer what it had merged before, if merging fails in one of them."""
        before = [(layer, layer.merged_adapters) for layer in self._layers().values()]
        try:
            yield
        except BaseException:
            for layer, merged in before:
                if layer.merged_adapters != merged:
                    layer.unmerge()
                    layer.merge(adapter_names=merged)
            raise

    def _require_mergeable(self, adapter_names: list[str] | None) -> None:
        """Check that modules can hold the edits of adapters, and that the head is theirs; raises as `merge_adapter`."""
        chosen = self.active_adapters if adapter_names is None else adapter_names
        active = self.active_adapters
        if {*chosen} != {*active} and head_dtypes(self.model):
            raise UserError(
                "invalid-adapter-name",
                f"the modules that train in full are those of {', '.join(active)}, not of {', '.join(chosen)}",
                hint=f"Call set_adapter({chosen[0]!r}) first.",
            )
        for name in chosen:
            edited: dict[str, Vectors] = {}
            for path, layer in self._layers().items():
                vectors = layer.vectors(name)
                if vectors is not None and name not in layer.merged_adapters:
                    edited[path] = vectors
            require_foldable(self.model, edited)
