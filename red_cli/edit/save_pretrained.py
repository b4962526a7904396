"""Let `save_pretrained` of a model with edits write its adapter: plain loading would drop edits from whole weights."""

from __future__ import annotations

import inspect
import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from red_cli.edit.adapter_config import CONFIG_FILE
from red_cli.edit.attached_adapters import active_adapter, attachment, gained_biases, require_attachment
from red_cli.edit.save import adapter_tensors, save_adapter, saved_names
from red_cli.errors import UserError
from red_cli.files import write_bytes, write_text
from red_cli.formatting import some_of

_METHOD = "save_pretrained"
_WHOLE_MODEL = ("config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_TRAINER_CHECKPOINT, _TRAINER_FILE = re.compile(r"checkpoint-\d+"), "model.safetensors"
_HUB_OPTIONS = ("commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")
_CARD = """---
library_name: red
tags: [red]
---

An adapter of RED, two vectors after each edited module. It is no model by itself: `adapter_config.json` names its base.

```python
import red_cli

model = red_cli.load("THIS FOLDER")  # the base with the adapter
```

`red export THIS_FOLDER --output model/` folds it into an ordinary model.
"""


def save_adapter_instead(model: PreTrainedModel) -> None:
    """Replace `save_pretrained` of a model, and of the models in it that have edits, until `save_whole_again`.

    Trainer, `push_to_hub` and others save by this method. It is an attribute of the one model, not of its class, and
    refers to the model by a `partial`, so that models can be copied and pickled.
    """
    vars(model)[_METHOD] = partial(save_pretrained, model)
    edited = require_attachment(model).hooks
    for path, part in model.named_modules():
        if path and isinstance(part, PreTrainedModel) and any(f"{name}.".startswith(f"{path}.") for name in edited):
            vars(part)[_METHOD] = partial(_refuse_part, path)


def save_whole_again(model: nn.Module) -> None:
    """Give a model without edits its own `save_pretrained` back."""
    for module in model.modules():
        vars(module).pop(_METHOD, None)


def save_if_declared(model: nn.Module) -> None:
    """Let `save_pretrained` refuse a model with modules that gained biases which its configuration does not have."""
    for part in model.modules():
        if isinstance(part, PreTrainedModel) and gained_biases(part):
            vars(part)[_METHOD] = partial(_save_declared, part)
    if gained_biases(model) and refuse_whole not in model._state_dict_pre_hooks.values():
        model.register_state_dict_pre_hook(refuse_whole)


def refuse_whole(part: nn.Module, prefix: str, _: bool) -> None:
    """The hook before `state_dict` of a model with edits or gained biases: may a model around it be saved?

    The part does not know the models around it, but sees whose `save_pretrained` asks for its weights.

    Raises:
        UserError: plain loading of the model around it would drop edits or biases.
    """
    frame = inspect.currentframe() if prefix else None
    while frame is not None:
        whole = frame.f_locals.get("self")
        if frame.f_code.co_name == _METHOD and isinstance(whole, PreTrainedModel) and whole is not part:
            if attachment(part) is not None:
                raise UserError(
                    "unsupported-model",
                    f"{prefix[:-1]} in the {type(whole).__name__} has edits, which plain loading would drop",
                    hint="Attach to the whole model; or save the part, whose save_pretrained writes the adapter; or "
                    "fold the edits first: red_cli.fold.",
                )
            _require_declared(whole)
            return
        frame = frame.f_back


def save_pretrained(
    model: PreTrainedModel,
    save_directory: str | Path,
    is_main_process: bool = True,
    state_dict: dict[str, Tensor] | None = None,
    push_to_hub: bool = False,
    **options: Any,
) -> None:
    """Write the active adapter as `save_adapter` does, with a README.md that says how to load it.

    A checkpoint of Trainer, `checkpoint-N`, also gets `model.safetensors` with the same tensors by their names in the
    model: Trainer resumes from a file of that name alone. Without `config.json`, `from_pretrained` refuses both.

    Args:
        options: those of transformers. Those of whole weights, such as `max_shard_size`, have no effect.

    Raises:
        UserError: no adapter is active, or the folder holds a whole model, which plain loading would take instead.
    """
    folder, attached = Path(save_directory), require_attachment(model)
    if not is_main_process:
        return
    active_adapter(model)
    if others := [name for name in attached.adapters if name != attached.selection.active]:
        warnings.warn(
            f"{folder} gets the active adapter {attached.selection.active!r} alone; the model also has: "
            f"{', '.join(others)}",
            stacklevel=2,
        )
    present = [name for name in _WHOLE_MODEL if (folder / name).exists()]
    if present and ("config.json" in present or not (folder / CONFIG_FILE).exists()):
        raise UserError(
            "output-exists",
            f"{folder} holds a whole model ({present[0]}), which would be loaded instead of the adapter",
            hint="Save to another folder, or delete this one first.",
        )
    save_adapter(model, folder, state_dict=state_dict)
    if not (folder / "README.md").exists():
        write_text(folder / "README.md", _CARD)
    if _TRAINER_CHECKPOINT.fullmatch(folder.resolve().name):
        tensors = adapter_tensors(model, state_dict)
        by_name = {name: tensors[key] for key, name in saved_names(model).items()}
        write_bytes(folder / _TRAINER_FILE, save(by_name, metadata={"format": "pt"}))
    if push_to_hub:
        chosen = {name: options[name] for name in _HUB_OPTIONS if name in options}
        model.push_to_hub(options.get("repo_id", folder.resolve().name), **chosen)


def expect_no_base(model: nn.Module, keys: Any) -> None:
    """The hook after `load_state_dict`: the base is not missing in a file that holds all that trains, and no more.

    So `load_state_dict(…, strict=True)` of exactly that part reports that all keys match; the base stays as it is.
    """
    assert isinstance(model, PreTrainedModel)
    if require_attachment(model).active is None or keys.unexpected_keys:
        return
    if {*keys.missing_keys} == {*model.state_dict()} - {*saved_names(model).values()}:
        keys.missing_keys.clear()


def _save_declared(model: PreTrainedModel, *arguments: Any, **options: Any) -> None:
    """The `save_pretrained` of a model whose modules gained biases.

    Raises:
        UserError: a model of this configuration has no place for a bias, so that plain loading would drop it.
    """
    _require_declared(model)
    type(model).save_pretrained(model, *arguments, **options)


def _require_declared(model: PreTrainedModel) -> None:
    """Check that a model of this configuration has the gained biases; raises what `_save_declared` does."""
    with torch.device("meta"):
        plain = {name for name, _ in type(model)(model.config).named_parameters()}
    if lost := [name for name in gained_biases(model) if name not in plain]:
        raise UserError(
            "unsupported-model",
            f"plain loading would drop folded biases, which the configuration does not declare: {some_of(lost)}",
            hint="Save the adapter before folding, then: red export ADAPTER --output MODEL",
        )


def _refuse_part(path: str, *_: Any, **__: Any) -> None:
    """The `save_pretrained` of a model inside a model with edits.

    Raises:
        UserError: always.
    """
    raise UserError(
        "unsupported-model",
        f"{path} has edits, which plain loading of its weights would drop",
        hint="Save the whole model, which writes the adapter; or fold the edits into its weights first: red_cli.fold.",
    )
