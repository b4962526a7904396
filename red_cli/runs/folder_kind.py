"""Decide by its files what a folder is: a run, an adapter or an exported model. No other module decides that."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from red_cli.edit.adapter_config import CONFIG_FILE
from red_cli.errors import UserError
from red_cli.files import ADAPTER_CONFIG_FILE, TRAINED_FILE, subfolders

FolderKind = Literal["run", "adapter", "exported model"]
RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.json"
ENVIRONMENT_FILE = "environment.json"
_MODEL_FILE = "config.json"
DEPTH = 5  # levels of subfolders that are searched for runs
# Files of a run; a folder of recipes has none of them.
_RUN_FILES = (METRICS_FILE, ENVIRONMENT_FILE, "adapter", "checkpoints")


def is_trained_folder(folder: Path) -> bool:
    """Whether a folder is, by its files, of the kind that holds trained tensors."""
    return (folder / TRAINED_FILE).is_file() or (folder / ADAPTER_CONFIG_FILE).is_file()


def folder_kind(path: Path) -> FolderKind | None:
    """The kind of a folder, or None if it is something else."""
    if is_trained_folder(path):
        return "adapter"
    if (path / _MODEL_FILE).is_file():
        return "exported model"
    return "run" if is_run_folder(path) else None


def is_run_folder(path: Path) -> bool:
    """Whether a folder has a recipe and files of a run; an exported model that was evaluated has both too."""
    return (path / RECIPE_FILE).is_file() and any((path / name).exists() for name in _RUN_FILES)


def require_kind(path: Path, recipe: str | None) -> FolderKind:
    """The kind of a folder; if the user names a `recipe`, a run folder needs no recipe of its own.

    Raises:
        UserError: the folder is something else.
    """
    kind = folder_kind(path)
    if kind is None and recipe is not None and is_trained_folder(path / "adapter"):
        kind = "run"
    if kind is None:
        raise not_trained(path)
    return kind


def not_trained(path: Path) -> UserError:
    """The error for a folder that is neither a run, an adapter nor an exported model with its recipe."""
    if not path.is_dir():
        return no_folder_of_kind(path, "Give a run folder, an adapter folder or an exported model.")
    missing = "" if (path / RECIPE_FILE).is_file() else f": it has no {RECIPE_FILE}"
    return UserError(
        "not-a-run",
        f"{path} is not a run folder, an adapter folder or an exported model{missing}",
        hint="For any other model, name a recipe: red eval FOLDER --recipe RECIPE",
    )


def no_folder_of_kind(path: Path, wanted: str) -> UserError:
    """The error for a path that is no folder of the kind that is `wanted`. For a data file it says what takes one."""
    from red_cli.tasks.data.split_files import is_data_file

    if not path.is_file():
        return UserError("folder-not-found", f"no such folder: {path}", hint=wanted)
    if not is_data_file(path):
        return UserError("not-a-run", f"{path} is a file, not a folder", hint=wanted)
    file = shlex.quote(str(path))
    use = f"To train on it: red train {file}. To predict its rows with a run: red predict RUN {file}"
    return UserError("not-a-run", f"{path} is a data file, not a run", hint=use)


def is_run(path: Path) -> bool:
    """Whether a folder is a run, finished or not."""
    return is_run_folder(path)


def is_adapter(path: Path) -> bool:
    """Whether a folder is a bare RED adapter."""
    return (path / CONFIG_FILE).is_file()


def run_folders(path: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders whose kind is a run: `path` itself, or those below it; subfolders of runs are not searched."""
    if is_run(path):
        yield path
    elif depth > 0 and not is_adapter(path):
        for child in subfolders(path):
            yield from run_folders(child, depth - 1)
