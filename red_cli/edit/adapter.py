"""Save and load adapters: the trained vectors, the trained head, and the base they belong to."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from red_cli.edit.adapter_config import (
    CONFIG_FILE,
    KEY_PREFIX,
    WEIGHTS_FILE,
    AdapterConfig,
    BaseDigest,
    BaseIdentity,
    read_adapter_config,
    require_same_base,
)
from red_cli.edit.attach import DEFAULT, attach, detach, train_head
from red_cli.edit.attached_adapters import active_adapter, edits
from red_cli.edit.model_kinds import SEQUENCE_CLASSIFIER, kind_of, own_label_names
from red_cli.edit.tensor_file import copy_into
from red_cli.errors import UserError, some_of
from red_cli.files import write_bytes, write_json


def save_adapter(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    base_revision: str | None = None,
    base_digest: BaseDigest | None = None,
) -> None:
    """Write the active adapter's vectors (float32) and trained head to `folder`. Each file is written atomically.

    Keys: `base_model.model.<module path>.red.scale|bias`, shape (d,), and `base_model.model.<parameter name>` for the
    head. The recorded name of the base is the one it was loaded by; `base_revision` and `base_digest` record its
    revision and content.

    Raises:
        UserError: the model has no edits.
    """
    adapter = active_adapter(model)
    folder = Path(folder)
    weights = save(adapter_tensors(model), metadata={"format": "pt"})
    config = AdapterConfig(
        base_model_name_or_path=model.config._name_or_path,
        revision=base_revision,
        task_type=_task_type(model, trained_head=bool(adapter.head)),
        architecture=type(model).__name__,
        red=adapter.config,
        target_modules=adapter.paths,
        head=list(adapter.head),
        label_names=_label_names(model, trained_head=bool(adapter.head)),
        base=BaseIdentity.of(model),
        base_digest=base_digest,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        library_versions={name: importlib.metadata.version(name) for name in ("torch", "transformers")},
    )
    write_bytes(folder / WEIGHTS_FILE, weights)
    write_json(folder / CONFIG_FILE, config.model_dump())


def adapter_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """The trained tensors by their key in the adapter file, contiguous and on the CPU."""
    return {key: parameter.detach().cpu().contiguous() for key, parameter in _trained_parameters(model).items()}


def load_adapter(model: PreTrainedModel, folder: str | Path, name: str = DEFAULT) -> list[str]:
    """Attach the adapter in `folder` to `model` under `name` and make it the active one.

    Keys, shapes and dtypes must match exactly; otherwise an error is raised and the model is unchanged.

    Returns:
        The paths of the edited modules.

    Raises:
        UserError: a file is missing or damaged; the base has another architecture, width or vocabulary; a key is
            missing, unexpected or of another shape; or a value is not finite.
    """
    folder = Path(folder)
    config = read_adapter_config(folder)
    require_same_base(model, config, folder)
    paths = attach(model, config.red, name)
    try:
        if set(paths) != set(config.target_modules):
            differing = sorted(set(paths) ^ set(config.target_modules))
            raise UserError(
                "base-mismatch", f"{folder}: the adapter edits other modules than this base has: {some_of(differing)}"
            )
        train_head(model, config.head)
        load_adapter_weights(model, folder)
    except BaseException:
        detach(model, name)
        raise
    return paths


def load_adapter_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Copy the tensors in `folder` into the existing edits and head of `model`; raises what `load_adapter` raises."""
    file = Path(folder) / WEIGHTS_FILE
    copy_into(_trained_parameters(model), file, read_adapter_config(folder).weights_sha256, CONFIG_FILE)


def _trained_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters that an adapter's file holds, by key: the trained vectors and the trained head."""
    vectors = {f"{path}.red.{name}": vector for path, edit in edits(model) for name, vector in edit.named_parameters()}
    head = {name: model.get_parameter(name) for name in active_adapter(model).head}
    return {KEY_PREFIX + name: parameter for name, parameter in (vectors | head).items()}


def _task_type(model: PreTrainedModel, trained_head: bool) -> str:
    """The task type to save with an adapter, by the model and whether its head was trained."""
    kind = kind_of(model)
    if kind is not None and not kind.trains_head:
        return kind.task_type
    return SEQUENCE_CLASSIFIER.task_type if trained_head else "FEATURE_EXTRACTION"


def _label_names(model: PreTrainedModel, trained_head: bool) -> list[str] | None:
    """Label names in the order of class ids; without a trained head, those set in the configuration, or None."""
    names = own_label_names(model.config)
    if names is None and trained_head:
        return [str(name) for _, name in sorted(model.config.id2label.items())]
    return names
