"""Write files and folders atomically, list folders, and read JSON."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from red_cli.errors import UserError

# The files that identify a folder of trained tensors: of PEFT's layout, which RED uses too, or of another method
ADAPTER_CONFIG_FILE = "adapter_config.json"
TRAINED_FILE = "trained.json"
_PIECE = 1 << 20  # bytes that are read at once for a digest


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` if the block succeeds, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # errors of writing have no file name
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path`; rename it to `path` if the block succeeds, else remove it.

    Raises:
        UserError: `path` exists and is not an empty folder.
    """
    path = path.resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            "output-exists",
            f"{path} exists and is not an empty folder",
            hint="Choose another folder, or delete this one first.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files and folders of `path` that killed processes left."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        owner = leftover.name.removesuffix(".tmp").rpartition(".")[2]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)


def leads_outside(folder: Path, file: Path) -> bool:
    """Whether symbolic links lead from `file` in `folder` to a path outside the folder.

    In the Hub's cache the files of `<repository>/snapshots/<commit>/` are links into `<repository>/blobs/`, which are
    allowed.
    """
    inside, target = folder.resolve(), Path(os.path.realpath(file))
    roots = [inside]
    if inside.parent.name == "snapshots":
        roots.append(inside.parent.parent / "blobs")
    return not any(target.is_relative_to(root) for root in roots)


def require_inside(folder: Path, file: Path) -> Path:
    """Return `file` if no link leads out of `folder`.

    Raises:
        UserError: a link leads out of it.
    """
    if leads_outside(folder, file):
        raise UserError(
            "path-outside-folder",
            f"{file} is a link that leads out of its folder, to {os.path.realpath(file)}",
            hint="Replace the link by a copy, or give another folder.",
        )
    return file


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing, or not JSON; the message has the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("file-not-found", f"no such file: {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError("invalid-json", f"{path}{line}: not valid JSON ({error})") from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, which are read piece by piece, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def expand_user(text: str) -> Path:
    """A path with `~` expanded; unchanged if the user does not exist."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, without hidden ones, by name: `run2` before `run10`."""
    folders = [child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")]
    return sorted(folders, key=lambda folder: (_texts_and_numbers(folder.name), folder.name))


def _texts_and_numbers(name: str) -> list[str | int]:
    """A name as texts and numbers in turn, which sorts the numbers in it by their size."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]
