"""Save the active adapter of a model: its vectors, the trained head, and the base that they belong to."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from red_cli.edit.adapter_config import CONFIG_FILE, KEY_PREFIX, WEIGHTS_FILE, AdapterConfig
from red_cli.edit.attached_adapters import active_adapter, edits, is_folded, require_attachment, vector_ids
from red_cli.edit.model_kinds import own_label_names, task_type
from red_cli.edit.recorded_base import BaseDigest, BaseIdentity
from red_cli.edit.trained_head import head_parameter_names
from red_cli.errors import UserError
from red_cli.files import write_bytes, write_json


def save_adapter(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    base_revision: str | None = None,
    base_digest: BaseDigest | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the active adapter's vectors and everything else that trains to `folder`. Each file is written atomically.

    Keys: `base_model.model.<module path>.red.scale|bias`, shape (d,), and `base_model.model.<parameter name>` for the
    head and every other parameter of the base that requires gradients. All are float32, whatever the model was cast
    to. The recorded name of the base is the one it was loaded by; `base_revision` and `base_digest` record its
    revision and content.

    Args:
        state_dict: the model's state, where its parameters are sharded over processes.

    Raises:
        UserError: the model has no edits; or others were folded into its weights, which are no longer the recorded
            base's.
    """
    if is_folded(model):
        raise UserError(
            "unsupported-model",
            "edits were folded into the model before, so that its adapter would belong to no base in files",
            hint="Save an adapter before folding, then: red export ADAPTER --output MODEL; attach to MODEL.",
        )
    adapter, head = active_adapter(model), trained_base_parameters(model)
    folder = Path(folder)
    weights = save(adapter_tensors(model, state_dict), metadata={"format": "pt"})
    trained_head = bool({*head} & {*head_parameter_names(model)})
    config = AdapterConfig(
        base_model_name_or_path=model.config._name_or_path,
        revision=base_revision,
        task_type=task_type(model, trained_head),
        architecture=type(model).__name__.removeprefix("FSDP"),
        red=adapter.config,
        target_modules=adapter.paths,
        head=head,
        label_names=label_names(model, trained_head),
        base=BaseIdentity.of(model),
        base_digest=base_digest,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        library_versions={name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    )
    write_bytes(folder / WEIGHTS_FILE, weights)
    write_json(folder / CONFIG_FILE, config.model_dump())


def adapter_tensors(model: PreTrainedModel, state_dict: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The trained tensors by their key in the adapter file: float32, contiguous and on the CPU."""
    known = {} if state_dict is None else state_dict
    return {
        key: (known[name] if name in known else model.get_parameter(name)).detach().float().cpu().contiguous()
        for key, name in saved_names(model).items()
    }


def saved_names(model: PreTrainedModel) -> dict[str, str]:
    """The names of all parameters that are saved, since they train, by their key in the adapter file."""
    return _names(model, trained_base_parameters(model))


def parameters_to_save(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters of the active adapter to save: its vectors and head by their key in the adapter file."""
    return {key: model.get_parameter(name) for key, name in _names(model, [*active_adapter(model).head]).items()}


def trained_base_parameters(model: PreTrainedModel) -> list[str]:
    """The names of parameters to save with the vectors: the adapter's head, then what the user unfroze."""
    head, vectors = active_adapter(model).head, vector_ids(model)
    others = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in vectors and name not in head
    ]
    return [*head, *others]


def _names(model: PreTrainedModel, head: list[str]) -> dict[str, str]:
    """The names of the active adapter's vectors and of `head`, by their key in the adapter file."""
    active = require_attachment(model).selection.active
    vectors = {
        f"{path}.red.{kind}": f"{path}.red.{active}.{kind}"
        for path, edit in edits(model)
        for kind, _ in edit.named_parameters()
    }
    return {KEY_PREFIX + key: name for key, name in (vectors | dict(zip(head, head, strict=True))).items()}


def label_names(model: PreTrainedModel, trained_head: bool) -> list[str] | None:
    """The label names to save, in the order of class ids; without a trained head, those that were set, or None."""
    names = own_label_names(model.config)
    if names is None and trained_head:
        return [str(name) for _, name in sorted(model.config.id2label.items())]
    return names
