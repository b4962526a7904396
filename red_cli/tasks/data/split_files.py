"""Find the files of each split that a recipe's data section names; no file is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from red_cli.errors import UserError, one_line
from red_cli.files import read_json
from red_cli.formatting import some_of
from red_cli.recipe.sections import Data

# Name of a file in a data folder -> split it holds
SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
                "dev": "validation", "test": "test"}  # fmt: skip
TEXT_ENDINGS = (".csv", ".tsv", ".json", ".jsonl")  # each also with .gz after it
ENDINGS = (*TEXT_ENDINGS, ".parquet", ".arrow", ".feather", ".xlsx")
KNOWN_ENDINGS = f"{' '.join(ENDINGS)}, and .gz after {' '.join(TEXT_ENDINGS)}"
_FILE_NAME = re.compile(r"([A-Za-z_]+?)(?:-(\d+)-of-(\d+)(?:-[0-9a-f]+)?)?(\.\w+(?:\.gz)?)")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HUB_PAGE = re.compile(r"(?:https?://huggingface\.co/datasets/|hf://datasets/)([\w.-]+/[\w.-]+)/?")
_SAVED_SPLITS, _SAVED_FILES = "dataset_dict.json", "state.json"  # of folders written by datasets.save_to_disk
_NAMED = ("train", "validation", "test")  # splits with a key of their own


def ending(path: Path) -> str:
    """The ending of a split's file, which gives its format, in lower case: ".csv", ".csv.gz", or empty."""
    name = path.name.lower()
    inner = Path(name.removesuffix(".gz")).suffix
    return inner + ".gz" if name.endswith(".gz") and inner in TEXT_ENDINGS else Path(name).suffix


def is_data_file(path: Path) -> bool:
    """Whether a file may be one of a split's files, by its ending alone; it is not read."""
    return ending(path).removesuffix(".gz") in ENDINGS


def split_files(data: Data) -> dict[str, list[Path]] | None:
    """The local files of every split that `data` names; None for a data set on the Hub.

    A file of a single split need not exist, since it may not be needed: `require_file` checks that.

    Raises:
        UserError: data.path is missing, or is not what its key expects.
    """
    if data.path is None:
        named = {split: getattr(data, split) for split in _NAMED}
        return {split: [Path(file)] for split, file in named.items() if file is not None}
    if _is_folder(data.path):
        return _files_of_folder(Path(data.path))
    if _is_hub_name(data.path):
        return None
    return {"train": [_file("data.path", data.path)]}


def require_file(data: Data, split: str) -> None:
    """Check that the file that `data` names for a split, if it does, is one.

    Raises:
        UserError: it is a URL, a folder, or does not exist.
    """
    if data.path is None and split in _NAMED and (name := getattr(data, split)) is not None:
        _file(f"data.{split}", name)


def _file(key: str, name: str) -> Path:
    """Find the file that a recipe's data section names under `key`; a URL or a folder is refused.

    Raises:
        UserError: it is a URL, a folder, or does not exist.
    """
    if _URL.match(name):
        page = _HUB_PAGE.fullmatch(name)
        raise UserError(
            "file-not-found",
            f"{key} is a URL: {one_line(name)}",
            hint=f"Name the data set on the Hub: data.path={page[1]}"
            if page
            else "Download the file and name the local copy; a data set on the Hub is named as data.path=OWNER/NAME",
        )
    path = Path(name)
    if _is_folder(name):
        raise UserError(
            "file-not-found",
            f"{key} is a folder: {name}",
            hint=f"Name a file in it, or the folder with its split files: data.path={name}",
        )
    if not _is_file(path):
        kind = "file or folder" if key == "data.path" else "file"
        what = f"{key}: no such {kind}: {one_line(name, 300)}"
        through = next((parent for parent in path.parents if _is_file(parent)), None)
        raise UserError("file-not-found", what, hint=None if through is None else f"{through} is a file, not a folder.")
    return path


def _files_of_folder(folder: Path) -> dict[str, list[Path]]:
    """The files of each split in a folder, by their names, or as `datasets.save_to_disk` lists them.

    Shards must be complete.
    """
    if (folder / _SAVED_SPLITS).is_file():
        splits = _listed(folder / _SAVED_SPLITS, "splits")
        return {SPLIT_NAMES.get(split, split): _saved_files(folder / split) for split in splits}
    if (folder / _SAVED_FILES).is_file() and any(folder.glob("data-*.arrow")):
        return {"train": _saved_files(folder)}
    files: dict[str, list[Path]] = {}
    shards: dict[str, int] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(path.name.lower())
        if match and is_data_file(path) and path.is_file():
            split = SPLIT_NAMES.get(match[1], match[1])
            if split in files and match[3] is None:
                raise UserError(
                    "split-not-found",
                    f"{folder}: two files for the {split} split: {files[split][0].name} and {path.name}",
                )
            files.setdefault(split, []).append(path)
            shards[split] = int(match[3] or 1)
    for split, paths in files.items():
        if len(paths) != shards[split]:
            raise UserError("split-not-found", f"{folder}: the {split} split has {len(paths)} of {shards[split]} files")
    if not files:
        raise UserError("split-not-found", f"{folder} has no split files", hint=_instead(folder))
    return files


def _saved_files(folder: Path) -> list[Path]:
    """The files of a split that `datasets.save_to_disk` wrote, in their order."""
    return [folder / name for name in _listed(folder / _SAVED_FILES, "_data_files")]


def _listed(file: Path, key: str) -> list[str]:
    """The names that a JSON file of `datasets.save_to_disk` lists.

    Raises:
        UserError: the file is damaged, or a name leads out of its folder.
    """
    content = read_json(file)
    listed = content.get(key) if isinstance(content, dict) else None
    names: list[Any] = [each.get("filename") if isinstance(each, dict) else each for each in listed or []]
    if not names or not all(isinstance(name, str) and Path(name).name == name != ".." for name in names):
        raise UserError("file-damaged", f"{file} is damaged: {key} does not list names in its folder")
    return names


def _instead(folder: Path) -> str:
    """What to name instead of a folder without split files: its data files, or a folder in it that has some."""
    inside = sorted(path for path in folder.iterdir() if is_data_file(path) and path.is_file())
    if inside:
        return f"Name the files one by one: data.train={inside[0]}  (it has {some_of([path.name for path in inside])})"
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(map(is_data_file, inner.iterdir())):
            return f"Did you mean data.path={inner}?"
    return f"Expected train, validation and test with one of the endings {KNOWN_ENDINGS}"


def _is_hub_name(name: str) -> bool:
    """Whether a path that is no folder or file of a split names a data set on the Hub."""
    path = Path(name)
    local = name.startswith(".") or is_data_file(path) or _is_file(path)
    return _HUB_NAME.fullmatch(name) is not None and not local and not Path(path.parts[0]).exists()


def _is_folder(name: str) -> bool:
    """Whether the name of a data set is a folder; one that is not a valid path is none."""
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # too long, or not a valid path
        return False


def _is_file(path: Path) -> bool:
    """Whether the path of a split is a file; one that is not valid is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
