"""Read an adapter's tensors strictly as numpy arrays, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from red_cli.edit.adapter_config import CONFIG_FILE, KEY_PREFIX, WEIGHTS_FILE, AdapterConfig, read_adapter_config
from red_cli.edit.tensor_file import Form, read_tensors


@dataclass(frozen=True)
class Edit:
    """The arrays of one edited module, float32 of shape (d,); None for a component that was not trained."""

    scale: NDArray[np.float32] | None
    bias: NDArray[np.float32] | None


@dataclass(frozen=True)
class AdapterArrays:
    """An adapter as arrays: its configuration, its edits by module path, and its head by parameter name."""

    folder: Path
    config: AdapterConfig
    edits: dict[str, Edit]
    head: dict[str, NDArray[np.float32]]


def read_vectors(folder: Path) -> AdapterArrays:
    """Read the arrays of the adapter in `folder`.

    Raises:
        UserError: a file is missing or damaged, a key is missing or unexpected, or a value is not finite.
    """
    config = read_adapter_config(folder)
    vectors = [f"{path}.red.{part}" for path in config.target_modules for part in config.red.components]
    expected: dict[str, Form] = {KEY_PREFIX + name: (None, "float32") for name in (*vectors, *config.head)}
    arrays = read_tensors(folder / WEIGHTS_FILE, expected, config.weights_sha256, CONFIG_FILE, "numpy")
    edits = {
        path: Edit(*(arrays.get(f"{KEY_PREFIX}{path}.red.{component}") for component in ("scale", "bias")))
        for path in config.target_modules
    }
    return AdapterArrays(folder, config, edits, {name: arrays[KEY_PREFIX + name] for name in config.head})
