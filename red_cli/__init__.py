"""Fine-tune transformers by Representation EDiting: two learned vectors after each edited module."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from red_cli.api import load, load_adapter, train_recipe
    from red_cli.edit.adapter_names import adapter_rows
    from red_cli.edit.attach import activate, attach, detach
    from red_cli.edit.config import RedConfig
    from red_cli.edit.fold import fold
    from red_cli.edit.load_adapters import save_adapter
    from red_cli.train.parameter_groups import parameter_groups

__version__ = "0.2.0"

_HOME = {
    "RedConfig": "red_cli.edit.config",
    "activate": "red_cli.edit.attach",
    "adapter_rows": "red_cli.edit.adapter_names",
    "attach": "red_cli.edit.attach",
    "detach": "red_cli.edit.attach",
    "fold": "red_cli.edit.fold",
    "load": "red_cli.api",
    "load_adapter": "red_cli.api",
    "parameter_groups": "red_cli.train.parameter_groups",
    "save_adapter": "red_cli.edit.load_adapters",
    "train_recipe": "red_cli.api",
}

__all__ = [
    "RedConfig",
    "__version__",
    "activate",
    "adapter_rows",
    "attach",
    "detach",
    "fold",
    "load",
    "load_adapter",
    "parameter_groups",
    "save_adapter",
    "train_recipe",
]


if not TYPE_CHECKING:  # type checkers would take any name

    def __getattr__(name: str) -> Any:
        """An attribute of the package `red_cli`, imported on first use so that commands do not wait for torch."""
        if name not in _HOME:
            raise AttributeError(f"module 'red_cli' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME[name]), name)
