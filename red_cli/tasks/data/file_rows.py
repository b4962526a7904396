"""Read the rows of a file of any known format, in parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from red_cli.errors import UserError
from red_cli.tasks.data.arrow_columns import TEXT, doubled, joined_tables, table_of
from red_cli.tasks.data.arrow_file import arrow_tables, parquet_tables
from red_cli.tasks.data.csv_file import Record, form_of, records
from red_cli.tasks.data.excel_file import sheet_rows
from red_cli.tasks.data.json_file import json_rows
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.split_files import KNOWN_ENDINGS, ending

_PART = 2_000  # rows that are turned into columns at once
_QUOTES_ARE_TEXT = (
    "quotation marks around cells of a .tsv are kept as text; if they quote the cells, name the file .csv"
)


@dataclass(frozen=True)
class Part:
    """Some consecutive rows of a file.

    Attributes:
        numbers: (rows,), their numbers in the file, from 1.
        notes: what was guessed in reading them.
    """

    table: pa.Table
    numbers: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def read_parts(path: Path, delimiter: str | None = None) -> Iterator[Part]:
    """Read the rows of a data file of any known format, in parts.

    A row's number is that of its line in a JSONL file, and counts from the first row after the header in a CSV file;
    blank lines count as well.

    Args:
        delimiter: of CSV and TSV files; None: it is found.

    Raises:
        UserError: the file does not exist, is empty or damaged, or has an unknown ending.
    """
    if not path.is_file():
        raise UserError("file-not-found", f"no such file: {path}")
    if path.stat().st_size == 0:
        raise UserError("no-rows", f"{path} is empty")
    kind = ending(path).removesuffix(".gz")
    if kind in (".csv", ".tsv"):
        form = form_of(path, delimiter)
        yield from _parts_of_records(records(path, form), () if form.note is None else (form.note,), form.quoted)
    elif kind in (".json", ".jsonl"):
        yield from _parts_of_objects(json_rows(path))
    elif kind == ".xlsx":
        rows, note = sheet_rows(path)
        numbered = (Record(number, cells) for number, cells in enumerate(rows) if cells)
        yield from _parts_of_records(numbered, () if note is None else (note,), quoted=True)
    elif kind in (".parquet", ".arrow", ".feather"):
        yield from _numbered(parquet_tables(path) if kind == ".parquet" else arrow_tables(path))
    else:
        raise UserError("unsupported-file", f"{path}: unknown file ending", hint=f"Known: {KNOWN_ENDINGS}")


def _parts_of_records(found: Iterable[Record], notes: tuple[str, ...], quoted: bool) -> Iterator[Part]:
    """Read the rows of a CSV, TSV or XLSX file in parts: tables of text named by the header, with row numbers."""
    rows = iter(found)
    header = next(rows, None)
    if header is None:
        return
    names = header.cells
    first_places = {name: names.index(name) for name in names}
    repeated = [name for name in first_places if names.count(name) > 1]
    while part := list(islice(rows, _PART)):
        columns = list(zip(*(record.cells for record in part), strict=True))
        arrays = {name: _texts(columns[place]) for name, place in first_places.items()}
        if not quoted and any(cell[:1] == '"' == cell[-1:] for column in columns for cell in column):
            notes = tuple(dict.fromkeys((*notes, _QUOTES_ARE_TEXT)))
        numbers = np.fromiter((record.number for record in part), np.int64)
        yield Part(doubled(pa.table(arrays), repeated), numbers, notes)


def _texts(cells: Iterable[str | None]) -> pa.Array:
    """A column of text. `pa.array` would import pandas first, which delays the start of every run."""
    column = pa.lib.StringBuilder()
    column.append_values(cells)
    return column.finish().cast(TEXT)


def _parts_of_objects(rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[Part]:
    """Read the rows of a JSON or JSONL file in parts: tables of its objects by key, with row numbers."""
    while part := list(islice(rows, _PART)):
        names = dict.fromkeys(key for _, row in part for key in row)
        table = table_of({name: [row.get(name) for _, row in part] for name in names})
        yield Part(table, np.fromiter((number for number, _ in part), np.int64))


def _numbered(tables: Iterable[pa.Table]) -> Iterator[Part]:
    """Yield each table of a file as a part, with its rows numbered from 1 across all tables."""
    first = 1
    for table in tables:
        yield Part(table, np.arange(first, first + table.num_rows))
        first += table.num_rows


def read_file_rows(paths: Sequence[Path], delimiter: str | None = None) -> Rows:
    """Read the rows of the files of one split.

    Raises:
        UserError: a file cannot be read, or they have no rows.
    """
    tables, indices, notes, files = [], [], dict[str, None](), []
    first = 0
    for path in paths:
        files.append((first, str(path)))
        last = 0
        for part in read_parts(path, delimiter):
            if part.table.num_rows:
                tables.append(part.table)
                indices.append(first + part.numbers - 1)
                notes |= dict.fromkeys(part.notes)
                last = int(part.numbers[-1])
        first += last
    if not tables:
        raise UserError("no-rows", f"{paths[0]} has no rows")
    table, source_indices = joined_tables(tables), np.concatenate(indices)
    return Rows(
        table,
        str(paths[0]),
        source_indices=None if first == table.num_rows else source_indices,
        files=tuple(files) if len(files) > 1 else (),
        notes=tuple(notes),
    )
