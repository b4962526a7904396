"""The heads that an adapter trains in full: their loading, their dtypes in training, and after PEFT's merge.

PEFT calls them `modules_to_save`.
"""

from __future__ import annotations

import torch
import transformers
from packaging.version import Version
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from red_cli.edit.layer import RedEdit
from red_cli.edit.trained_head import cast_to_weight
from red_cli.errors import UserError
from red_cli.peft.config import RedConfig

_READS_HEADS = "5.18"  # the first version of transformers that loads modules_to_save of an adapter folder


def float32_heads(model: nn.Module, adapter_name: str) -> None:
    """Make the heads that an adapter trains float32, as its vectors are, and cast their inputs."""
    for wrapper in _wrappers(model).values():
        if adapter_name not in wrapper.modules_to_save:
            continue
        module = wrapper.modules_to_save[adapter_name]
        if any(parameter.dtype != torch.float32 for parameter in module.parameters()):
            module.float()
            module.register_forward_pre_hook(cast_to_weight)


def head_dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """The dtypes of the heads in the base, by path."""
    return {path: next(wrapper.original_module.parameters()).dtype for path, wrapper in _wrappers(model).items()}


def restore_head_dtypes(model: nn.Module, dtypes: dict[str, torch.dtype]) -> None:
    """Cast the trained head to the base's dtypes once the adapter is merged."""
    for path, dtype in dtypes.items():
        module = model.get_submodule(path).to(dtype)
        for number, hook in [*module._forward_pre_hooks.items()]:
            if hook is cast_to_weight:
                del module._forward_pre_hooks[number]


def _wrappers(model: nn.Module) -> dict[str, ModulesToSaveWrapper]:
    """The modules of `modules_to_save` by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)}


def require_loading_of_heads(config: RedConfig, model: PreTrainedModel) -> None:
    """Check that an adapter with a trained head fits transformers' own loading, which would read only the vectors.

    Raises:
        UserError: there is a head, and transformers would leave it at random, or use that of an earlier adapter.
    """
    if config.record is None or not config.record.head:
        return
    hint = "Load the base, then PeftModel.from_pretrained(base, FOLDER) and its load_adapter; or red_cli.load(FOLDER)."
    if Version(transformers.__version__) < Version(_READS_HEADS):
        raise UserError(
            "version-too-old",
            f"transformers {transformers.__version__} by itself reads an adapter without its trained head",
            hint=f"{hint} transformers {_READS_HEADS} reads it.",
        )
    if any(isinstance(module, RedEdit) for module in model.modules()):
        raise UserError(
            "unsupported-method", "transformers by itself does not switch the heads of several adapters", hint=hint
        )
