"""Checks before an export: the base, and the space on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from red_cli.base_model.base_files import BIASES_KEY, BaseFiles
from red_cli.base_model.digest import changed_parts
from red_cli.errors import UserError
from red_cli.export.adapter_arrays import AdapterArrays
from red_cli.formatting import byte_size

_SPARE_BYTES = 64 << 20  # for configuration, tokenizer and card


def require_base(base: BaseFiles, adapter: AdapterArrays) -> None:
    """Check before an export that the base is the one that the adapter was trained on, unchanged.

    Raises:
        UserError: it is another base, its configuration or edited weights have changed, or it has biases that its own
            modelling file adds.
    """
    if BIASES_KEY in base.config:
        raise UserError(
            "unsupported-model",
            f"edits cannot be folded into {base.name}: its biases are in its own modelling file",
            hint="Share the adapter: --format adapter",
        )
    recorded, config = adapter.config.base, base.config
    wrong = [
        f"{key} {known} (here {config[key]})"
        for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")
        if (known := getattr(recorded, key)) is not None and key in config and config[key] != known
    ]
    if wrong:
        raise UserError(
            "base-mismatch",
            f"{adapter.folder} belongs to another base, {adapter.config.base_model_name_or_path}: {', '.join(wrong)}",
            hint="Give that base with --base, or train an adapter for this one.",
        )
    digest = adapter.config.base_digest
    changed = [] if digest is None else changed_parts(base.name, base.folder, digest, adapter.edits)
    if changed:
        raise UserError(
            "base-changed",
            f"the {' and the '.join(changed)} of {base.name} changed since {adapter.folder} was trained on it",
            hint="Give the base as it was: --base FOLDER, or model.revision of the recipe for one from the Hub.",
        )


def require_space(folder: Path, size: int) -> None:
    """Check before an export that the disk has enough free space.

    Raises:
        UserError: the disk of `folder` has less than `size` bytes and a reserve free.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    needed = size + _SPARE_BYTES
    if free < needed:
        raise UserError(
            "disk-full",
            f"not enough space for {folder}: {byte_size(needed)} needed, {byte_size(free)} free",
            hint="Free some space, or choose a folder on another disk.",
        )
