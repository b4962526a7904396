"""The file whose rows are predicted: its rows in parts, with their cells as they stand in it. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from red_cli.errors import UserError
from red_cli.files import file_sha256
from red_cli.tasks.data.arrow_columns import TEXT, plain, table_of, values_of
from red_cli.tasks.data.arrow_file import arrow_columns, stored_tables
from red_cli.tasks.data.csv_file import CsvForm, Record, form_of, records
from red_cli.tasks.data.excel_file import sheet_rows
from red_cli.tasks.data.json_file import is_document, json_rows, written_lines
from red_cli.tasks.data.split_files import KNOWN_ENDINGS, ending, is_data_file
from red_cli.tasks.data.text_file import open_text_file

PART = 2000  # rows that are predicted, and kept, together
LINES = ".txt"  # the ending of a file with a text in each line
MISSING = object()  # the value of a key that a JSON row does not have
_LARGEST = 2**63  # of Arrow's integers
_EXACT = 2**53  # whole numbers up to this size are exact as floats
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class InputPart:
    """Some consecutive rows of the file.

    Attributes:
        numbers: the rows' numbers in the file, from 1.
        rows: the values of each row, in the order of the file's columns; MISSING where a JSON row has none.
        lines: the rows of a JSONL file as they are written; None for other files.
        table: the rows of a Parquet or Arrow file in their own types; None for other files.
    """

    numbers: Sequence[int]
    rows: Sequence[Sequence[Any]]
    lines: Sequence[str] | None = None
    table: pa.Table | None = None

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class InputFile:
    """A file of a known format that was read once from its beginning to its end.

    Attributes:
        kind: cells (CSV, TSV, Excel), objects (JSON), columns (Parquet, Arrow) or lines of text.
        header: the names of the columns as they are written; a CSV file may repeat one.
        sizes: the number of rows of each part.
        form: how the cells of a CSV or TSV file are separated.
        begins_with_mark: whether a byte order mark precedes a text file.
        kinds: the Python types of the values in each column of JSON rows; `object` if no Arrow type holds its numbers.
        digest: of the file's bytes.
        notes: what was guessed in reading it.
    """

    path: Path
    kind: str
    header: Sequence[str]
    sizes: Sequence[int] = ()
    form: CsvForm | None = None
    begins_with_mark: bool = False
    kinds: dict[str, set[type]] = field(default_factory=dict)
    digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(self.sizes)

    @property
    def names(self) -> list[str]:
        """The names of the columns, each once: a repeated one has a number."""
        names: list[str] = []
        for name in self.header:
            names.append(free_column_name(name, names))
        return names

    @property
    def own_format(self) -> str:
        """The format of an output that nobody names: CSV or TSV for tables, else JSONL."""
        if self.kind != "cells":
            return ".jsonl"
        return ".tsv" if ending(self.path).startswith(".tsv") else ".csv"

    def parts(self) -> Iterator[InputPart]:
        """The rows, in parts of at most `PART`; where a part begins depends on the file alone.

        Raises:
            UserError: the file was changed and cannot be read any more.
        """
        if self.kind == "columns":
            first = 1
            for table in stored_tables(self.path, PART):
                columns = plain(table)
                values = [values_of(columns.column(name), columns.field(name)) for name in columns.column_names]
                numbers = range(first, first + table.num_rows)
                yield InputPart(numbers, list(zip(*values, strict=True)), table=table)
                first += table.num_rows
            return
        if self.kind == "objects" and not is_document(self.path):
            lines = written_lines(self.path)
            while part := list(islice(lines, PART)):
                rows = [[row.get(name, MISSING) for name in self.header] for _, _, row in part]
                yield InputPart([number for number, _, _ in part], rows, lines=[line for _, line, _ in part])
            return
        numbered = iter(self._numbered())
        while found := list(islice(numbered, PART)):
            yield InputPart([number for number, _ in found], [values for _, values in found])

    def table(self, part: InputPart, columns: dict[str, str]) -> pa.Table:
        """The columns of a part that are to be encoded: new name -> name in the file."""
        if part.table is not None:
            return plain(part.table).select(list(columns.values())).rename_columns(list(columns))
        places = {new: list(self.header).index(name) for new, name in columns.items()}
        values = {
            new: [None if row[place] is MISSING else row[place] for row in part.rows] for new, place in places.items()
        }
        if self.kind == "objects":
            return table_of(values)
        return pa.table({name: pa.array(cells, TEXT) for name, cells in values.items()})

    def _numbered(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """The number and the values of each row."""
        if self.kind == "lines":
            with open_text_file(self.path, newline="\n") as file:
                for number, line in enumerate(file, start=1):
                    yield number, [line.removesuffix("\n").removesuffix("\r")]
        elif self.kind == "objects":
            for number, row in json_rows(self.path):
                yield number, [row.get(name, MISSING) for name in self.header]
        else:
            yield from _cells(_records(self.path, self.form))


def open_input(path: Path, delimiter: str | None, column: str | None) -> InputFile:
    """Read a file once: check it, count its rows and find its columns.

    Args:
        delimiter: of CSV and TSV files; None: it is found.
        column: the name of the only column of a file of lines; None: such a file cannot be read.

    Raises:
        UserError: the file does not exist, is empty or damaged, or has an unknown ending.
    """
    file = _described(path, delimiter, column)
    if file.kind == "columns":
        return replace(file, sizes=[table.num_rows for table in stored_tables(path, PART)], digest=file_sha256(path))
    if file.kind == "objects":
        return _scanned_objects(file)
    return replace(file, sizes=_sizes(sum(1 for _ in file._numbered())), digest=file_sha256(path))


def require_input(path: Path) -> None:
    """Check that there is a file of a known format, as far as that is quick.

    Raises:
        UserError: it does not exist, is a folder or empty, or has an unknown ending.
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise UserError("file-not-found", f"{path} {what}")
    if path.stat().st_size == 0:
        raise UserError("no-rows", f"{path} is empty")
    if not is_data_file(path) and ending(path) != LINES:
        raise UserError("unsupported-file", f"{path}: unknown file ending", hint=f"Known: {KNOWN_ENDINGS}, and {LINES}")


def header_of(path: Path, delimiter: str | None) -> list[str] | None:
    """The names of an input file's columns, if its beginning has them; None for JSON and for files of lines.

    Raises:
        UserError: as `open_input`.
    """
    if ending(path) == LINES:
        return None
    file = _described(path, delimiter, None)
    return None if file.kind == "objects" else list(file.header)


def free_column_name(name: str, taken: Iterable[str]) -> str:
    """A name that no column of the input file has: `name`, or `name` with a number from 2 on."""
    taken, number, found = set(taken), 2, name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _described(path: Path, delimiter: str | None, column: str | None) -> InputFile:
    """A file by its ending and its beginning."""
    require_input(path)
    kind = ending(path).removesuffix(".gz")
    if kind == LINES and column is not None:
        return InputFile(path, "lines", [column])
    if kind in (".csv", ".tsv"):
        form = form_of(path, delimiter)
        header = next(records(path, form), None)
        with path.open("rb") as bytes_:
            mark = bytes_.read(len(_BOM)) == _BOM
        notes = () if form.note is None else (form.note.replace(" (data.delimiter)", ""),)
        return InputFile(path, "cells", [] if header is None else header.cells, (), form, mark, notes=notes)
    if kind == ".xlsx":
        rows, note = sheet_rows(path)
        return InputFile(path, "cells", rows[0] if rows else [], notes=() if note is None else (note,))
    if kind in (".json", ".jsonl"):
        return InputFile(path, "objects", [])
    if kind in (".parquet", ".arrow", ".feather"):
        return InputFile(path, "columns", list(dict.fromkeys(arrow_columns(path))))
    raise UserError("unsupported-file", f"{path} has no columns")


def _scanned_objects(file: InputFile) -> InputFile:
    """A JSON input file scanned for its columns, the types of its cells, and its number of rows."""
    kinds: dict[str, set[type]] = {}
    inexact: set[str] = set()  # columns with whole numbers that are no floats
    rows = 0
    for _, row in json_rows(file.path):
        rows += 1
        for name, value in row.items():
            kinds.setdefault(name, set()).add(type(value))
            if type(value) is int and abs(value) > _EXACT:
                inexact.add(name)
                if not -_LARGEST <= value < _LARGEST:
                    kinds[name].add(object)
    if not rows:
        raise UserError("no-rows", f"{file.path} has no rows")
    for name in inexact:
        if float in kinds[name]:
            kinds[name].add(object)
    return replace(file, header=list(kinds), sizes=_sizes(rows), kinds=kinds, digest=file_sha256(file.path))


def _records(path: Path, form: CsvForm | None) -> Iterable[Record]:
    """The header and the rows of an input file that is CSV, TSV or Excel."""
    if form is not None:
        return records(path, form)
    rows, _ = sheet_rows(path)
    return (Record(number, cells) for number, cells in enumerate(rows) if cells)


def _cells(found: Iterable[Record]) -> Iterator[tuple[int, Sequence[str]]]:
    """The number and the cells of each row. A blank line is a row where there is one column: its cell is empty."""
    rows = iter(found)
    header = next(rows, None)
    last = 0
    for record in rows:
        if header is not None and len(header.cells) == 1:
            yield from ((number, [""]) for number in range(last + 1, record.number))
        yield record.number, record.cells
        last = record.number


def _sizes(rows: int) -> list[int]:
    """The number of rows of each part of an input file: all are full but the last one."""
    return [min(PART, rows - start) for start in range(0, rows, PART)]
