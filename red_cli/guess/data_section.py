"""The data section of a guessed recipe: its files, validation rows, delimiter and rows left out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.errors import shown
from red_cli.formatting import byte_size
from red_cli.guess.siblings import SiblingFiles
from red_cli.guess.task import LABEL_TASKS, TaskGuess
from red_cli.tasks.data.csv_file import CsvForm, form_of
from red_cli.tasks.data.file_columns import column_names
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.split_files import ending
from red_cli.tasks.labels.classes import is_blank

_INPUTS = ("text", "text_pair", "prompt", "messages", "instruction")
_ANSWERS = ("label", "completion", "output")


@dataclass
class DataSection:
    """The data section without its columns.

    Attributes:
        keys: key -> its value and its comment.
        lines: what was guessed, as rows of label and value.
    """

    keys: dict[str, tuple[Any, str]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)


def data_section(
    target: Path, files: SiblingFiles, rows: Rows, guess: TaskGuess, share: float, given: Mapping[str, Any]
) -> DataSection:
    """The keys for a recipe at `target`; those that the user has `given` are left to him.

    Raises:
        UserError: a validation or test file cannot be read.
    """
    section = DataSection()
    section.keys["train"] = (_from(target, files.train), "")
    delimiter = {"tab": "\t"}.get(str(given.get("delimiter")), given.get("delimiter"))
    for split, path in sorted(files.others.items(), reverse=True):
        if split in given or split not in ("validation", "test"):
            continue
        needed = [guess.columns[key] for key in (*_INPUTS, *(_ANSWERS if split == "validation" else ()))
                  if key in guess.columns]  # fmt: skip
        names = column_names(path, delimiter)
        missing = [] if names is None else [name for name in needed if name not in names]
        if missing:
            section.lines.append((split, f"{path.name} is not used: it has no column {shown(missing[0])}"))
        else:
            section.keys[split] = (_from(target, path), "by its name")
            section.lines.append((split, f"{path.name}, by its name"))
    if not {"validation", "validation_share"} & {*section.keys, *given}:
        alike = ", of each class alike" if guess.task == "classification" else ""
        section.keys["validation_share"] = (share, f"there is no validation file; drawn by train.seed{alike}")
        section.lines.append(("validation", f"{share:.0%} of the rows{alike}; there is no file of it"))
    form = csv_form(files.train, delimiter)
    if form is not None and form.found:
        section.keys["delimiter"] = ("tab" if form.delimiter == "\t" else form.delimiter, "as found in the file")
    if "bad_rows" not in given and guess.task in LABEL_TASKS:
        unlabelled = sum(map(is_blank, rows.column(guess.columns["label"])))
        if unlabelled:
            section.keys["bad_rows"] = ("drop", f"{unlabelled:,} rows have no label")
            section.lines.append(("left out", f"{unlabelled:,} rows without a label (data.bad_rows)"))
    return section


def file_text(path: Path, rows: Rows, delimiter: str | None) -> str:
    """What the guess of the data section starts from, in words: a data file with its rows, size and delimiter."""
    form = csv_form(path, {"tab": "\t"}.get(str(delimiter), delimiter))
    tab = "\t"
    cells = "" if form is None else f", {'tabs' if form.delimiter == tab else repr(form.delimiter)} between cells"
    return f"{path.name}: {rows.table.num_rows:,} rows, {byte_size(path.stat().st_size)}{cells}"


def csv_form(path: Path, delimiter: str | None) -> CsvForm | None:
    """How the guessed data section says that a CSV or TSV file's cells are separated; None for other files."""
    return form_of(path, delimiter) if ending(path).removesuffix(".gz") in (".csv", ".tsv") else None


def _from(target: Path, path: Path) -> str:
    """The data section's name for a file: relative in the recipe's own folder, else absolute."""
    absolute = path.resolve()
    own = target.parent.resolve()
    return os.path.relpath(absolute, own) if absolute.parent == own else str(absolute)
