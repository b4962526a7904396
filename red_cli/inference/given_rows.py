"""Open the rows that are given to predict: a file, standard input, or texts on the command line. Imports no torch."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from red_cli.errors import UserError
from red_cli.inference.input_columns import InputColumns, find_columns, known_names, only_column
from red_cli.inference.input_file import LINES, InputFile, header_of, open_input
from red_cli.recipe.schema import Recipe
from red_cli.tasks.data.csv_file import form_of, records
from red_cli.tasks.data.split_files import ending

STANDARD_INPUT = "-"

_START = 4096  # bytes by which a format is recognised
_BEGINNINGS = {b"{": (".jsonl", "JSONL"), b"[": (".json", "JSON"), b"PAR1": (".parquet", "Parquet")}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def texts_as_file(texts: Sequence[str], column: str, folder: Path) -> Path:
    """Write the texts that a command line gives as rows to a JSONL file with one column."""
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts), encoding="utf-8")
    return path


def standard_input_as_file(folder: Path, known: Sequence[str]) -> tuple[Path, str]:
    """Copy the rows given on standard input to predict into a file; return it, and its format in words.

    JSON is known by its first line, Parquet by its beginning. Other text is CSV or TSV if its first line names one of
    the columns that are `known`; else each line is a text.

    Raises:
        UserError: standard input is empty.
    """
    path = folder / "standard-input"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if path.stat().st_size == 0:
        raise UserError("no-rows", "standard input is empty")
    with path.open("rb") as file:
        start = file.read(_START)
    for beginning, (end, name) in _BEGINNINGS.items():
        found = start.removeprefix(_BYTE_ORDER_MARK).lstrip().startswith(beginning)
        if found and (name == "Parquet" or _begins_json(path)):
            return path.rename(path.with_name(path.name + end)), name
    table = path.rename(path.with_name("standard-input.csv"))
    form = form_of(table, None)
    try:
        header = next(records(table, form)).cells
    except (UserError, StopIteration):
        header = []
    if not any(name in known for name in header):
        return table.rename(table.with_suffix(LINES)), "one text in each line"
    return (table.rename(table.with_suffix(".tsv")), "TSV") if form.delimiter == "\t" else (table, "CSV")


def _begins_json(path: Path) -> bool:
    """Whether the first line of given rows is JSON, or begins JSON of several lines; `[urgent] help` does neither."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if not line.isspace()), "").rstrip()
    try:
        json.loads(first)
    except json.JSONDecodeError as error:
        return error.pos >= len(first)
    except (ValueError, RecursionError):  # too many digits, too deeply nested
        return True
    return True


def open_given_rows(
    file: str | None, texts: Sequence[str], named: Sequence[str], recipe: Recipe, delimiter: str | None, folder: Path
) -> tuple[InputFile, InputColumns]:
    """Open the rows to predict, and find the columns that the model reads.

    Args:
        file: a path, or "-" for standard input; None: `texts`.
        named: what the user says of columns, as NAME=COLUMN.
        delimiter: of CSV and TSV files; None: it is found.
        folder: a folder for temporary files.

    Raises:
        UserError: the file cannot be read, or has no column that the model reads.
    """
    notes: tuple[str, ...] = ()
    if file is None:
        path = texts_as_file(texts, only_column(recipe), folder)
    elif file == STANDARD_INPUT:
        path, form = standard_input_as_file(folder, known_names(recipe, named))
        notes = (f"standard input is read as {form}",)
    else:
        path = Path(file)
        header = header_of(path, delimiter)
        if header is not None:
            find_columns(recipe, header, named, str(path))  # before all of a large file is read
    column = only_column(recipe, named) if ending(path) == LINES else None
    rows = open_input(path, delimiter, column)
    source = "standard input" if file == STANDARD_INPUT else str(path)
    columns = find_columns(recipe, list(rows.header), [] if rows.kind == "lines" else named, source)
    notes = (*notes, *rows.notes, *(() if columns.note is None else (columns.note,)))
    return replace(rows, notes=notes), columns
