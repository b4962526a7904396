"""Find the other split files of a data file by their names: validation.csv next to train.csv, reviews_dev.csv next to
reviews_train.csv or reviews.csv."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from red_cli.errors import UserError
from red_cli.escape import file_name
from red_cli.tasks.data.split_files import SPLIT_NAMES, is_data_file

_SHARD = re.compile(r"-\d+-of-(\d+)(?:-[0-9a-f]+)?$")
_WORDS = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class SiblingFiles:
    """A data file and its siblings: the files of one data set.

    Attributes:
        train: the file that was named.
        others: split -> its file.
        name: the data set's name, for a recipe: the file's without the word train, or that of its folder.
    """

    train: Path
    name: str
    others: dict[str, Path] = field(default_factory=dict)

    def recipe(self, number: int = 1) -> Path:
        """The place of a recipe for these files: next to them, or here where their folder cannot be written to.

        Args:
            number: from 2 on it is part of the name.
        """
        folder = self.train.parent if os.access(self.train.parent, os.W_OK) else Path()
        return folder / f"{file_name(self.name)}{'' if number == 1 else f'-{number}'}.yaml"


def split_files_around(path: Path) -> SiblingFiles:
    """The validation and test files that belong to a training file by their names.

    Raises:
        UserError: the file itself is named as another split of a file that is there, or is one of several shards.
    """
    stem = stem_of(path)
    shard = _SHARD.search(stem)
    if shard is not None and int(shard[1]) > 1:
        raise UserError(
            "cannot-guess",
            f"{path} is one of {int(shard[1])} files of a split",
            hint=f"Copy a recipe (red recipes copy classification) and name the folder in it: data.path={path.parent}",
        )
    own, rest = _split_and_rest(stem)
    others: dict[str, Path] = {}
    for other in sorted(path.parent.iterdir()):
        if other == path or not is_data_file(other) or not other.is_file():
            continue
        split, other_rest = _split_and_rest(stem_of(other))
        if split is not None and other_rest == rest and split not in others:
            others[split] = other
    if own in (None, "train"):
        others.pop("train", None)
    elif "train" in others:
        raise UserError(
            "cannot-guess", f"{path} is named as a {own} split", hint=f"The training file: {others['train']}"
        )
    else:
        others = {}
    folder = path.resolve().parent.name
    name = stem if own is None else rest.strip("-_. ") or folder or stem
    return SiblingFiles(path, name, others)


def training_file_of(folder: Path) -> Path | None:
    """The file of the training split among the siblings in a folder, or None."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and is_data_file(path)]
    return next((path for path in found if _split_and_rest(stem_of(path)) == ("train", "")), None)


def stem_of(path: Path) -> str:
    """The file's name without its ending and without .gz, which its siblings share."""
    return Path(path.name.removesuffix(".gz")).stem


def _split_and_rest(stem: str) -> tuple[str | None, str]:
    """The split that a word of a file's name says, and the name without this word and the marks around it."""
    for match in _WORDS.finditer(stem):
        split = SPLIT_NAMES.get(match[0].lower())
        if split is not None:
            before, after = stem[: match.start()].rstrip("-_. "), stem[match.end() :].lstrip("-_. ")
            return split, f"{before}_{after}" if before and after else before + after
    return None, stem
