"""Check that data files have the columns that a task reads, by a look at the start of each file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from red_cli.recipe.sections import Data
from red_cli.tasks.data.csv_file import form_of, records
from red_cli.tasks.data.json_file import is_document, json_rows
from red_cli.tasks.data.rows import column_not_found
from red_cli.tasks.data.split_files import ending
from red_cli.tasks.data.text_file import open_text_file

_FIRST = 100  # rows of a JSONL file whose keys are taken for its columns
_LARGEST_DOCUMENT = 2**24  # bytes of a JSON document, which is read as a whole
_BLOCK = 2**20  # characters


def require_columns(files: Sequence[Path], data: Data, needed: Sequence[tuple[str, ...]]) -> None:
    """Check the columns of the files of a split, as far as that is quick; the rest shows when they are read.

    Args:
        needed: of each column that the task reads the names of which one is enough.

    Raises:
        UserError: a file has no column that the task reads, or cannot be read.
    """
    if not needed or not files:
        return
    names = column_names(files[0], data.delimiter_character)
    if names is None:
        return
    for choices in needed:
        if not any(name in names or _may_come_later(files, name) for name in choices):
            raise column_not_found(str(files[0]), choices[0], names)


def column_names(path: Path, delimiter: str | None) -> list[str] | None:
    """The columns of a data file, for the check before a run; None if only reading all of it tells.

    Raises:
        UserError: the file cannot be read.
    """
    kind = ending(path).removesuffix(".gz")
    if path.stat().st_size == 0:
        return None
    if kind in (".csv", ".tsv"):
        return next((record.cells for record in records(path, form_of(path, delimiter))), [])
    if kind in (".json", ".jsonl"):
        if is_document(path) and path.stat().st_size > _LARGEST_DOCUMENT:
            return None
        return list(dict.fromkeys(key for _, row in islice(json_rows(path), _FIRST) for key in row))
    if kind in (".parquet", ".arrow", ".feather"):
        from red_cli.tasks.data.arrow_file import arrow_columns  # imports pyarrow, which is slow

        return arrow_columns(path)
    return None


def _may_come_later(files: Sequence[Path], name: str) -> bool:
    """Whether later rows of JSON files may have a key that the first rows do not have."""
    written = {json.dumps(name), json.dumps(name, ensure_ascii=False)}
    longest = max(map(len, written))
    for path in files:
        if ending(path).startswith(".json"):
            with open_text_file(path) as file:
                before = ""
                while block := file.read(_BLOCK):
                    if any(text in before + block for text in written):
                        return True
                    before = block[-longest:]
    return False
