"""What an adapter learnt: the size of scale - 1 and of bias, for each edited module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from red_cli.edit.adapter_config import AdapterConfig
from red_cli.errors import UserError
from red_cli.export.vectors import read_vectors
from red_cli.report.places import Place, labels, place_of

# What a vector is when nothing has been learnt
_START = {"scale": 1.0, "bias": 0.0}
NORM = (
    "Root mean square over the d values of a vector: its Euclidean length divided by the square root of d, "
    "so that modules of different widths compare"
)


@dataclass(frozen=True)
class Size:
    """How far a vector has moved from its start, over its d values.

    Attributes:
        rms: root mean square; comparable between widths.
        norm: Euclidean length, rms times the square root of d.
        largest: the largest absolute value.
    """

    rms: float
    norm: float
    largest: float

    @classmethod
    def of(cls, change: NDArray[np.float64]) -> Size:
        """The size of `change`, shape (d,)."""
        norm = float(np.linalg.norm(change))
        return cls(norm / float(np.sqrt(len(change))), norm, float(np.abs(change).max()))


@dataclass(frozen=True)
class LearntModule:
    """One edited module: where it stands, its width d, and the size of each of its vectors by component."""

    path: str
    label: str
    layer: int | None
    width: int
    sizes: Mapping[str, Size]

    @property
    def name(self) -> str:
        """The label with the layer's number."""
        return self.label if self.layer is None else f"{self.label} {self.layer}"

    def to_json(self) -> dict[str, Any]:
        sizes = {component: vars(size) for component, size in self.sizes.items()}
        return {"path": self.path, "kind": self.label, "layer": self.layer, "width": self.width, **sizes}


@dataclass(frozen=True)
class Learnt:
    """What an adapter learnt.

    Attributes:
        base: the base that it belongs to.
        components: "scale", "bias" or both.
        labels: of the kinds of modules, the rows of a heat map; kinds of one stack (encoder, decoder) lie together.
        stacks: of each label, the paths' part before the layer's number.
        layers: the columns: every layer of the base, edited or not, and None where a module has no layer's number.
        modules: in the adapter's order.
    """

    base: str
    components: list[str]
    labels: list[str]
    stacks: list[str]
    layers: list[int | None]
    modules: list[LearntModule]

    def grid(self, component: str) -> list[list[float | None]]:
        """The root mean square by label and layer; None where nothing is edited."""
        found = {(module.label, module.layer): module.sizes[component].rms for module in self.modules}
        return [[found.get((label, layer)) for layer in self.layers] for label in self.labels]

    def most_changed(self, component: str, count: int) -> list[LearntModule]:
        """The modules whose vector moved farthest, the farthest first."""
        return sorted(self.modules, key=lambda module: -module.sizes[component].rms)[:count]

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "norm": NORM,
            "components": self.components,
            "modules": [module.to_json() for module in self.modules],
        }


def read_learnt(folder: Path) -> Learnt:
    """What the adapter in `folder` learnt; the base is not needed.

    Raises:
        UserError: it is no RED adapter, or damaged: a file or vector is missing, of another kind, or not finite.
    """
    adapter = read_vectors(folder)
    config = adapter.config
    places = [place_of(path, config.base.model_type) for path in config.target_modules]
    names = labels(places)
    modules = []
    for path, place in zip(config.target_modules, places, strict=True):
        sizes: dict[str, Size] = {}
        width = 0
        for component in config.red.components:
            vector = getattr(adapter.edits[path], component)
            if vector.ndim != 1 or not len(vector):
                raise UserError(f"{folder} is damaged: the {component} of {path} is no vector")
            width = len(vector)
            sizes[component] = Size.of(vector.astype(np.float64) - _START[component])
        modules.append(LearntModule(path, names[place.pattern], place.layer, width, sizes))
    return _arranged(config, places, modules)


def _arranged(config: AdapterConfig, places: list[Place], modules: list[LearntModule]) -> Learnt:
    stacks = {module.label: place.stack for module, place in zip(modules, places, strict=True)}
    order = list(dict.fromkeys(stacks.values()))
    rows = sorted(stacks, key=lambda label: order.index(stacks[label]))
    numbers = {module.layer for module in modules if module.layer is not None}
    columns: list[int | None] = []
    if numbers:
        columns += range(max(config.base.num_hidden_layers or 0, max(numbers) + 1))
    if any(module.layer is None for module in modules):
        columns.append(None)
    return Learnt(
        config.base_model_name_or_path, list(config.red.components), rows, [stacks[label] for label in rows], columns,
        modules,
    )  # fmt: skip
