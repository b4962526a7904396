"""How far training moved each vector of an adapter: the size of scale - 1 and of bias for each edited module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from red_cli.edit.adapter_config import AdapterConfig
from red_cli.errors import UserError
from red_cli.export.adapter_arrays import read_vectors
from red_cli.report.module_paths import ModulePath, kind_labels, parse_module_path
from red_cli.runs.output_spread_file import OutputSpread

# The values of a vector before training
_START = {"scale": 1.0, "bias": 0.0}
NORM = (
    "Root mean square over the d values of a vector: its Euclidean length divided by the square root of d, "
    "so that modules of different widths compare"
)


@dataclass(frozen=True)
class VectorChange:
    """How far a vector of d values has moved from its initial values.

    Attributes:
        rms: root mean square, comparable between widths.
        norm: Euclidean length, which is rms times the square root of d.
        largest: largest absolute value.
    """

    rms: float
    norm: float
    largest: float

    @classmethod
    def of(cls, difference: NDArray[np.float64]) -> VectorChange:
        """Measure `difference`, the final minus the initial values, of shape (d,)."""
        norm = float(np.linalg.norm(difference))
        return cls(norm / float(np.sqrt(len(difference))), norm, float(np.abs(difference).max()))


@dataclass(frozen=True)
class ModuleChange:
    """The changes of one edited module.

    Attributes:
        path: the module's path in the base.
        label: a short name for modules of its kind.
        layer: its layer's number; None if its path has none.
        width: the number of values d of each of its vectors.
        changes: component -> change.
    """

    path: str
    label: str
    layer: int | None
    width: int
    changes: Mapping[str, VectorChange]

    @property
    def name(self) -> str:
        """The label followed by the layer's number."""
        return self.label if self.layer is None else f"{self.label} {self.layer}"

    def to_json(self) -> dict[str, Any]:
        changes = {component: vars(change) for component, change in self.changes.items()}
        return {"path": self.path, "kind": self.label, "layer": self.layer, "width": self.width, **changes}


@dataclass(frozen=True)
class AdapterChanges:
    """The changes of all vectors of an adapter.

    Attributes:
        base: name or path of the base model.
        components: "scale", "bias" or both.
        labels: a label for each kind of module, the rows of a heat map; kinds of one stack (encoder, decoder) are
            adjacent.
        stacks: for each label, the part of the module paths before the layer's number.
        layers: the columns of a heat map: every layer of the base, edited or not; last None, if a module has no layer.
        modules: in the adapter's order.
    """

    base: str
    components: list[str]
    labels: list[str]
    stacks: list[str]
    layers: list[int | None]
    modules: list[ModuleChange]

    def grid(self, component: str) -> list[list[float | None]]:
        """The root mean square by label and layer, shape (labels, layers); None if the module is not edited."""
        found = {(module.label, module.layer): module.changes[component].rms for module in self.modules}
        return [[found.get((label, layer)) for layer in self.layers] for label in self.labels]

    def most_changed(self, component: str, count: int) -> list[ModuleChange]:
        """The `count` modules whose vector moved farthest, the farthest first."""
        return sorted(self.modules, key=lambda module: -module.changes[component].rms)[:count]

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "norm": NORM,
            "components": self.components,
            "modules": [module.to_json() for module in self.modules],
        }


def read_adapter_changes(folder: Path) -> AdapterChanges:
    """Read the RED adapter in `folder`. The base is not loaded.

    Raises:
        UserError: it is not a RED adapter, or a file or vector is missing, malformed or not finite.
    """
    adapter = read_vectors(folder)
    config = adapter.config
    parsed = [parse_module_path(path, config.base.model_type) for path in config.target_modules]
    names = kind_labels(parsed)
    modules = []
    for path, module_path in zip(config.target_modules, parsed, strict=True):
        changes: dict[str, VectorChange] = {}
        width = 0
        for component in config.red.components:
            vector = getattr(adapter.edits[path], component)
            if vector.ndim != 1 or not len(vector):
                raise UserError("file-damaged", f"{folder} is damaged: the {component} of {path} is not a vector")
            width = len(vector)
            changes[component] = VectorChange.of(vector.astype(np.float64) - _START[component])
        modules.append(ModuleChange(path, names[module_path.pattern], module_path.layer, width, changes))
    return _arranged(config, parsed, modules)


def _arranged(config: AdapterConfig, paths: list[ModulePath], modules: list[ModuleChange]) -> AdapterChanges:
    """Arrange the changes of an adapter's modules in a grid: a row for each kind, a column for each layer."""
    stacks = {module.label: path.stack for module, path in zip(modules, paths, strict=True)}
    order = list(dict.fromkeys(stacks.values()))
    rows = sorted(stacks, key=lambda label: order.index(stacks[label]))
    numbers = {module.layer for module in modules if module.layer is not None}
    columns: list[int | None] = []
    if numbers:
        columns += range(max(config.base.num_hidden_layers or 0, max(numbers) + 1))
    if any(module.layer is None for module in modules):
        columns.append(None)
    return AdapterChanges(
        config.base_model_name_or_path, list(config.red.components), rows, [stacks[label] for label in rows], columns,
        modules,
    )  # fmt: skip


def bias_shares(changes: AdapterChanges, spread: OutputSpread) -> dict[str, float]:
    """The change of each module's bias: path -> root mean square, divided by the spread of the module's output."""
    return {
        module.path: module.changes["bias"].rms / spread.modules[module.path]
        for module in changes.modules
        if "bias" in module.changes and spread.modules.get(module.path)
    }
