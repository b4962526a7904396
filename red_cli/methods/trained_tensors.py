"""Save and load the tensors of methods other than RED, with their description in `trained.json`."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn
from transformers import PreTrainedModel

from red_cli.edit.recorded_base import BaseDigest, BaseIdentity
from red_cli.edit.tensor_file import copy_into
from red_cli.files import write_bytes, write_json
from red_cli.methods.trained_description import TRAINED_FILE, TrainedConfig, read_trained_config
from red_cli.recipe.methods import MethodName


def write_trained(
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
    """Save the trained tensors `parameters` by key in `folder / weights_file`, and describe them in `trained.json`."""
    tensors = {key: parameter.detach().cpu().contiguous() for key, parameter in parameters.items()}
    weights = save(tensors, metadata={"format": "pt"})
    names: dict[int, Any] = model.config.id2label
    stored = TrainedConfig(
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


def copy_trained(folder: Path, parameters: dict[str, nn.Parameter]) -> None:
    """Load the trained tensors of a folder into `parameters`. After an error nothing is changed.

    Raises:
        UserError: the file is missing or damaged; a key, shape or dtype differs; or a value is not finite.
    """
    stored = read_trained_config(folder)
    copy_into(parameters, folder / stored.weights_file, stored.weights_sha256, TRAINED_FILE)
