"""Files of what a method other than RED trained: the tensors, and `trained.json` that says what they belong to."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from red_cli.edit.adapter_config import BaseDigest, BaseIdentity
from red_cli.errors import UserError
from red_cli.files import write_bytes, write_json
from red_cli.methods.trained_json import TRAINED_FILE, Stored, read_stored
from red_cli.recipe.methods import MethodName

_MOST_NAMED = 3


def write_stored(
    folder: Path,
    model: PreTrainedModel,
    method: MethodName,
    options: dict[str, Any],
    head: list[str],
    parameters: dict[str, nn.Parameter],
    weights_file: str,
    revision: str | None,
    digest: BaseDigest | None,
    libraries: tuple[str, ...] = ("torch", "transformers"),
) -> None:
    """Write `parameters` by their keys to `folder / weights_file`, and `trained.json`; `digest` is the base's."""
    tensors = {key: parameter.detach().cpu().contiguous() for key, parameter in parameters.items()}
    weights = save(tensors, metadata={"format": "pt"})
    names: dict[int, Any] = model.config.id2label
    stored = Stored(
        method=method,
        options=options,
        base_model_name_or_path=model.config._name_or_path,
        revision=revision,
        head=head,
        label_names=[str(names[index]) for index in sorted(names)] if head else None,
        base=BaseIdentity.of(model),
        base_digest=digest,
        weights_file=weights_file,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        library_versions={name: importlib.metadata.version(name) for name in libraries},
    )
    write_bytes(folder / weights_file, weights)
    write_json(folder / TRAINED_FILE, stored.model_dump())


def require_same_base(model: PreTrainedModel, stored: Stored, folder: Path) -> None:
    """Refuse another architecture, width, depth or vocabulary, and one without the parameters of the stored head."""
    here, there = BaseIdentity.of(model).model_dump(), stored.base.model_dump()
    differing = [f"{name} {there[name]} (here {here[name]})" for name in there if here[name] != there[name]]
    if differing:
        raise UserError(
            f"{folder} belongs to another base, {stored.base_model_name_or_path}: {', '.join(differing)}",
            hint="Give that base, or train again for this one.",
        )
    known = {name for name, _ in model.named_parameters()}
    if lacking := [name for name in stored.head if name not in known]:
        raise UserError(f"{folder}: this base has no such head parameters: {', '.join(lacking[:_MOST_NAMED])}")


def copy_stored(folder: Path, parameters: dict[str, nn.Parameter]) -> None:
    """Copy the stored tensors into `parameters`: exactly these keys, shapes and dtypes, or nothing changes.

    Raises:
        UserError: the file is missing or damaged, or does not fit; a value is not finite.
    """
    stored = read_stored(folder)
    file = folder / stored.weights_file
    tensors = _read_tensors(file)
    problems = [
        f"{label}: {', '.join(sorted(keys)[:_MOST_NAMED])}"
        for label, keys in (
            ("missing", parameters.keys() - tensors.keys()),
            ("unexpected", tensors.keys() - parameters.keys()),
        )
        if keys
    ]
    for key in sorted(parameters.keys() & tensors.keys()):
        wanted, found = parameters[key], tensors[key]
        if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
            problems.append(
                f"{key} is {found.dtype} {tuple(found.shape)}, expected {wanted.dtype} {tuple(wanted.shape)}"
            )
        elif found.is_floating_point() and not torch.isfinite(found).all():
            problems.append(f"{key} holds values that are not finite")
    if problems:
        raise UserError(f"{file} does not fit the model\n  " + "\n  ".join(problems[: _MOST_NAMED * 2]))
    if hashlib.sha256(file.read_bytes()).hexdigest() != stored.weights_sha256:
        raise UserError(
            f"{file} is damaged: its digest is not the one in {TRAINED_FILE}", hint="Copy it again, or train again."
        )
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(tensors[key])


def _read_tensors(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise UserError(f"no such file: {file}", hint="Copy it again, or train again.")
    try:
        with safe_open(file, framework="pt") as handle:
            return {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, OverflowError) as error:
        raise UserError(f"{file} is damaged: {error}", hint="Copy it again, or train again.") from None
