"""Read checkpoints of the paper's published code: `delta_vector.pth`, and for RoBERTa `classifier.pth`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from torch import Tensor
from transformers import PreTrainedModel

from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.attach import attach
from red_cli.edit.config import Position, RedConfig
from red_cli.edit.targets import find_targets
from red_cli.edit.tensor_file import read_torch_file
from red_cli.edit.trained_head import train_head
from red_cli.errors import UserError
from red_cli.files import require_inside

VECTORS_FILE = "delta_vector.pth"
HEAD_FILE = "classifier.pth"
_KEY = re.compile(r"(.+)\.delta_vector\.activation_(scaling|bias)")
_COMPONENTS = {"scaling": "scale", "bias": "bias"}
# The published code can wrap the complete output block, whose output is that of its LayerNorm.
_BLOCK_END = ".LayerNorm"


@dataclass(frozen=True)
class Published:
    """A published checkpoint: vectors (d,) float32 by module path and component, the head by parameter name."""

    vectors: dict[str, dict[str, Tensor]]
    head: dict[str, Tensor]

    @property
    def components(self) -> list[str]:
        """The vectors that every module has."""
        return list(next(iter(self.vectors.values())))

    @property
    def scale_never_moved(self) -> bool:
        """Whether the checkpoint has scales and all of their values are exactly 1."""
        scales = [vectors["scale"] for vectors in self.vectors.values() if "scale" in vectors]
        return bool(scales) and all(bool((scale == 1).all()) for scale in scales)


def read_published(path: str | Path) -> Published:
    """Read a published checkpoint, a folder or its `delta_vector.pth`; unpickling is limited to tensors.

    Raises:
        UserError: a file is missing, has no tensors, or another format; or a value is not finite.
    """
    path = Path(path)
    file = require_inside(path, path / VECTORS_FILE) if path.is_dir() else path
    vectors: dict[str, dict[str, Tensor]] = {}
    if not file.is_file():
        raise UserError(
            "file-not-found", f"no such file: {file}", hint=f"Give a folder with {VECTORS_FILE}, or that file."
        )
    for key, tensor in read_torch_file(file).items():
        match = _KEY.fullmatch(key)
        if match is None or tensor.numel() != tensor.shape[-1]:
            raise UserError(
                "unsupported-file", f"{file}: {key} {tuple(tensor.shape)} is not a vector of the published code"
            )
        vectors.setdefault(match[1], {})[_COMPONENTS[match[2]]] = tensor.flatten().float()
    if not vectors:
        raise UserError("no-rows", f"{file} holds no vectors")
    if len({frozenset(components) for components in vectors.values()}) > 1:
        raise UserError("unsupported-file", f"{file}: some modules have a scaling and some do not")
    head_file = file.parent / HEAD_FILE
    head = read_torch_file(require_inside(file.parent, head_file)) if head_file.is_file() else {}
    order: list[str] = [name for name in ("scale", "bias") if name in next(iter(vectors.values()))]
    ordered = {module: {name: found[name] for name in order} for module, found in vectors.items()}
    return Published(ordered, {f"classifier.{name}": tensor.float() for name, tensor in head.items()})


def attach_published(model: PreTrainedModel, published: Published) -> RedConfig:
    """Attach a published checkpoint's vectors and head to `model`, which may be on the meta device.

    Returns:
        A configuration that selects exactly these modules, by positions if possible.

    Raises:
        UserError: the model does not have these modules, or has other widths.
    """
    paths = {_path_in_model(model, path): found for path, found in published.vectors.items()}
    config = _configuration(model, list(paths), published.components)
    attach(model, config, train_head=False)
    values = {f"{path}.red.default.{name}": tensor for path, found in paths.items() for name, tensor in found.items()}
    values |= published.head
    parameters = dict(model.named_parameters())
    for key, tensor in values.items():
        if key not in parameters:
            raise UserError("base-mismatch", f"the base has no parameter {key}")
        if parameters[key].shape != tensor.shape:
            raise UserError(
                "base-mismatch", f"{key} has shape {tuple(tensor.shape)}, the base's is {tuple(parameters[key].shape)}"
            )
    model.load_state_dict(values, strict=False, assign=True)
    train_head(model, list(published.head))
    return config


def _path_in_model(model: PreTrainedModel, path: str) -> str:
    """The module's path in `model`; paths in checkpoints may start at the base model or at the full model."""
    modules = dict(model.named_modules())
    for candidate in (path, f"{model.base_model_prefix}.{path}"):
        if candidate + _BLOCK_END in modules:
            return candidate + _BLOCK_END
        if candidate in modules:
            return candidate
    raise UserError(
        "base-mismatch",
        f"the checkpoint edits {path}, which a {model.config.model_type} model does not have",
        hint="Give the base it was trained on: --base",
    )


def _configuration(model: PreTrainedModel, paths: list[str], components: list[str]) -> RedConfig:
    """Positions and layers that select exactly `paths`, or else a pattern that lists them."""
    architecture = ARCHITECTURES.get(model.config.model_type)
    if architecture is not None:
        layers: set[int] = set()
        positions: list[Position] = []
        for position in get_args(Position):
            end = architecture.positions.get(position)
            matches = [match for path in paths if end and (match := re.fullmatch(rf"(?:.*\.)?{end}", path))]
            layers |= {int(match[1]) for match in matches}
            positions += [position] if matches else []
        for wanted in ("all", sorted(layers)):
            config = RedConfig(positions=positions or ["ffn"], components=components, layers=wanted)  # type: ignore[arg-type]
            try:
                if {target.path for target in find_targets(model, config)} == set(paths):
                    return config
            except UserError:
                continue
    pattern = "|".join(re.escape(path) for path in paths)
    return RedConfig(target_modules=pattern, components=components)  # type: ignore[arg-type]
