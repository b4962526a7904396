"""Adapter files: the learned vectors, the head trained beside them, and what they belong to."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
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
)
from red_cli.edit.attachment import active_adapter
from red_cli.edit.kinds import SEQUENCE_CLASSIFIER, kind_of, own_label_names
from red_cli.edit.model import DEFAULT, attach, detach, edits, train_head
from red_cli.errors import UserError
from red_cli.files import write_bytes, write_json

_MOST_NAMED = 3
_COPY_AGAIN = "Copy it again, or train again."


def save_adapter(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    base_revision: str | None = None,
    base_digest: BaseDigest | None = None,
) -> None:
    """Write the active adapter's vectors (float32) and its trained head to `folder`, each file whole or not at all.

    Keys: `base_model.model.<module path>.red.scale|bias`, shape (d,), and `base_model.model.<parameter name>` for the
    head. The base's name is the one it was loaded under; `base_revision` pins its version,
    `base_digest` its content.

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
    """The trained tensors by their keys in the adapter file, as contiguous copies on the CPU."""
    return {key: parameter.detach().cpu().contiguous() for key, parameter in _trained_parameters(model).items()}


def load_adapter(model: PreTrainedModel, folder: str | Path, name: str = DEFAULT) -> list[str]:
    """Attach the adapter in `folder` to `model` under `name` and make it the active one.

    Exactly its keys, shapes and dtypes are loaded, or an error is raised and nothing changes.

    Returns:
        The paths of the edited modules.

    Raises:
        UserError: files missing or damaged; the base's architecture, width or vocabulary is another; a key is missing,
            extra or misshapen; a value is not finite.
    """
    folder = Path(folder)
    config = read_adapter_config(folder)
    require_same_base(model, config, folder)
    paths = attach(model, config.red, name)
    try:
        if set(paths) != set(config.target_modules):
            differing = sorted(set(paths) ^ set(config.target_modules))
            raise UserError(f"{folder}: the adapter edits other modules than this base has: {_some(differing)}")
        known = {key for key, _ in model.named_parameters()}
        if lacking := [key for key in config.head if key not in known]:
            raise UserError(f"{folder}: this base has no such head parameters: {_some(lacking)}")
        train_head(model, config.head)
        load_adapter_weights(model, folder)
    except BaseException:
        detach(model, name)
        raise
    return paths


def load_adapter_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Copy the tensors in `folder` into the edits and head that `model` already has; the same errors as loading."""
    file = Path(folder) / WEIGHTS_FILE
    stored = _read_tensors(file)
    wanted = _trained_parameters(model)
    problems = [
        f"{label}: {_some(sorted(keys))}"
        for label, keys in (("missing", wanted.keys() - stored.keys()), ("unexpected", stored.keys() - wanted.keys()))
        if keys
    ]
    for key in sorted(wanted.keys() & stored.keys()):
        if wanted[key].shape != stored[key].shape:
            problems.append(f"{key} has shape {tuple(stored[key].shape)}, expected {tuple(wanted[key].shape)}")
        elif stored[key].dtype != wanted[key].dtype:
            problems.append(f"{key} is {stored[key].dtype}, expected {wanted[key].dtype}")
        elif not torch.isfinite(stored[key]).all():
            problems.append(f"{key} holds values that are not finite")
    if problems:
        raise UserError(f"{file} does not fit the model\n  " + "\n  ".join(problems[: _MOST_NAMED * 2]))
    if hashlib.sha256(file.read_bytes()).hexdigest() != read_adapter_config(folder).weights_sha256:
        raise UserError(f"{file} is damaged: its digest is not the one in {CONFIG_FILE}", hint=_COPY_AGAIN)
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(stored[key])


def _trained_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    vectors = {f"{path}.red.{name}": vector for path, edit in edits(model) for name, vector in edit.named_parameters()}
    head = {name: model.get_parameter(name) for name in active_adapter(model).head}
    return {KEY_PREFIX + name: parameter for name, parameter in (vectors | head).items()}


def _read_tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise UserError(f"{file.parent} is not an adapter folder: it has no {WEIGHTS_FILE}")
    try:
        with safe_open(file, framework="pt") as handle:
            return {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, OverflowError) as error:
        raise UserError(f"{file} is damaged: {error}", hint=_COPY_AGAIN) from None


def require_same_base(model: PreTrainedModel, config: AdapterConfig, folder: Path) -> None:
    """Refuse an adapter of another architecture, width, depth or vocabulary.

    Raises:
        UserError: one of them differs.
    """
    here, there = BaseIdentity.of(model).model_dump(), config.base.model_dump()
    differing = [f"{name} {there[name]} (here {here[name]})" for name in there if here[name] != there[name]]
    if differing:
        raise UserError(
            f"{folder} belongs to another base, {config.base_model_name_or_path}: {', '.join(differing)}",
            hint="Give that base, or train an adapter for this one.",
        )


def _task_type(model: PreTrainedModel, trained_head: bool) -> str:
    kind = kind_of(model)
    if kind is not None and not kind.trains_head:
        return kind.task_type
    return SEQUENCE_CLASSIFIER.task_type if trained_head else "FEATURE_EXTRACTION"


def _label_names(model: PreTrainedModel, trained_head: bool) -> list[str] | None:
    """In the order of class ids; without a trained head, those that the configuration was given, if any."""
    names = own_label_names(model.config)
    if names is None and trained_head:
        return [str(name) for _, name in sorted(model.config.id2label.items())]
    return names


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
