"""An adapter's numbers as arrays, read strictly and without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from red_cli.edit.adapter_config import CONFIG_FILE, KEY_PREFIX, WEIGHTS_FILE, AdapterConfig, read_adapter_config
from red_cli.errors import UserError

_COPY_AGAIN = "Copy it again, or train again."


@dataclass(frozen=True)
class Edit:
    """The two vectors of one module, (d,) float32; None for a component that was not learnt."""

    scale: NDArray[np.float32] | None
    bias: NDArray[np.float32] | None


@dataclass(frozen=True)
class AdapterArrays:
    """An adapter: its configuration, its edits by module path, and its head by parameter name."""

    folder: Path
    config: AdapterConfig
    edits: dict[str, Edit]
    head: dict[str, NDArray[np.float32]]


def read_vectors(folder: Path) -> AdapterArrays:
    """Read the adapter in `folder`.

    Raises:
        UserError: a file is missing or damaged, a key is missing, extra or no vector, or a value is not finite.
    """
    config = read_adapter_config(folder)
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise UserError(f"{folder} is not an adapter folder: it has no {WEIGHTS_FILE}")
    content = file.read_bytes()
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise UserError(f"{file} is damaged: {error}", hint=_COPY_AGAIN) from None
    vectors = [f"{path}.red.{part}" for path in config.target_modules for part in config.red.components]
    expected = {KEY_PREFIX + name for name in (*vectors, *config.head)}
    if odd := sorted(expected ^ arrays.keys()):
        kind = "is missing" if odd[0] in expected else "is unexpected"
        raise UserError(f"{file} does not fit {CONFIG_FILE}: {odd[0]} {kind}", hint=_COPY_AGAIN)
    for key in sorted(arrays):
        if arrays[key].dtype != np.float32:
            raise UserError(f"{file}: {key} is {arrays[key].dtype}, expected float32", hint=_COPY_AGAIN)
        if not np.isfinite(arrays[key]).all():
            raise UserError(f"{file}: {key} holds values that are not finite", hint="Train again, at a lower rate.")
    if hashlib.sha256(content).hexdigest() != config.weights_sha256:
        raise UserError(f"{file} is damaged: its digest is not the one in {CONFIG_FILE}", hint=_COPY_AGAIN)
    edits = {
        path: Edit(*(arrays.get(f"{KEY_PREFIX}{path}.red.{component}") for component in ("scale", "bias")))
        for path in config.target_modules
    }
    return AdapterArrays(folder, config, edits, {name: arrays[KEY_PREFIX + name] for name in config.head})
