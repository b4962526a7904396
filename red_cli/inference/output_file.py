"""Write the rows of a file with new columns after their own: CSV, TSV, JSONL or Parquet. Imports no torch."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from red_cli.errors import UserError
from red_cli.formatting import number_of
from red_cli.inference.input_file import MISSING, InputFile, InputPart, free_column_name
from red_cli.tasks.data.arrow_columns import TEXT
from red_cli.tasks.data.split_files import ending

TEXT_FORMATS = (".csv", ".tsv", ".jsonl")
FORMATS = (*TEXT_FORMATS, ".parquet")
Kind = type[str] | type[float]  # of a new column's values, each of which may be None
Answered = Iterable[tuple[InputPart, Sequence[Sequence[Any]]]]  # a part of the file, the new cells of each row

_ARROW = {str: TEXT, float: pa.float64()}
_NAMED_KINDS: tuple[tuple[set[type], pa.DataType], ...] = (
    ({str}, TEXT), ({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64())
)  # fmt: skip
_OF_OTHER_COLUMNS = b"huggingface"  # metadata that lists all columns, and would be wrong with new ones
_NOT_IN_TSV = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def require_output(path: Path, source: Path | None, overwrite: bool) -> str:
    """Check that an output can be written to `path`; returns its format, one of FORMATS.

    Raises:
        UserError: the ending is unknown, the path exists or is the input, or its folder cannot be written to.
    """
    form = ending(path).removesuffix(".gz")
    if form not in FORMATS or path.name.lower().endswith(".parquet.gz"):
        known = f"Known: {' '.join(FORMATS)}, and .gz after {' '.join(TEXT_FORMATS)}"
        raise UserError("unsupported-file", f"--output {path}: unknown file ending", hint=known)
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise UserError("output-exists", f"--output {path} is the file to predict", hint="Name another file.")
    if path.is_dir() or (path.exists() and not overwrite):
        what, hint = ("is a folder", "Name a file.") if path.is_dir() else ("exists", "To replace it: --overwrite")
        raise UserError("output-exists", f"--output {path} {what}", hint=hint)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError("folder-not-found", f"--output {path}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK):
        raise UserError("no-permission", f"--output {path}: no permission to write to {folder}")
    return form


def write_rows(file: InputFile, new: Mapping[str, Kind], answered: Answered, form: str, target: IO[bytes]) -> list[str]:
    """Write all rows in a format; returns what the format could not hold, a line each.

    Args:
        new: name -> kind of the new columns.
    """
    writer: Callable[[InputFile, Mapping[str, Kind], Answered, IO[bytes]], list[str]] = {
        ".csv": _write_csv, ".tsv": _write_tsv, ".jsonl": _write_jsonl, ".parquet": _write_parquet
    }[form]  # fmt: skip
    return writer(file, new, answered, target)


@contextmanager
def opened_for_writing(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open the output file `name` at `path` to write its bytes, compressed reproducibly if it ends with .gz."""
    with path.open("wb") as file:
        if not name.lower().endswith(".gz"):
            yield file
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
            yield cast(IO[bytes], compressed)


def new_names(file: InputFile, wanted: Sequence[str]) -> list[str]:
    """The names of the output file's new columns, each with a number where the input has a column of that name."""
    taken = list(file.names)
    for name in wanted:
        taken.append(free_column_name(name, taken))
    return taken[len(file.names) :]


def _write_csv(file: InputFile, new: Mapping[str, Kind], answered: Answered, target: IO[bytes]) -> list[str]:
    """Write CSV, with the delimiter and the byte order mark of a CSV file that was read."""
    own = file.form if file.form is not None and file.form.quoted else None
    with _text(target) as text:
        if file.begins_with_mark and own is not None:
            text.write("\ufeff")
        writer = csv.writer(_UnixLines(text), delimiter=own.delimiter if own else ",")
        writer.writerow([*file.header, *new])
        for cells in _cells(file, answered):
            writer.writerow(cells)
    return []


@dataclass(frozen=True)
class _UnixLines:
    """Writes CSV rows with a plain newline at the end; the library's own option leaves a carriage return unquoted."""

    text: io.TextIOWrapper

    def write(self, row: str) -> int:
        return self.text.write(row.removesuffix("\r\n") + "\n")


def _write_tsv(file: InputFile, new: Mapping[str, Kind], answered: Answered, target: IO[bytes]) -> list[str]:
    """Write TSV, which has no quotation marks: tabs and line breaks inside cells are escaped."""
    own = file.form if file.form is not None and not file.form.quoted else None
    delimiter = own.delimiter if own else "\t"
    escaped = 0
    with _text(target) as text:
        for cells in chain([[*file.header, *new]], _cells(file, answered)):
            plain = [cell.translate(_NOT_IN_TSV) for cell in cells]
            escaped += sum(cell != other for cell, other in zip(cells, plain, strict=True))
            text.write(delimiter.join(plain) + "\n")
    where = number_of(escaped, "cell")
    return [f"TSV has no line breaks or tabs inside cells: they are \\n and \\t in {where}"] if escaped else []


def _write_jsonl(file: InputFile, new: Mapping[str, Kind], answered: Answered, target: IO[bytes]) -> list[str]:
    """Write JSONL; a row that was JSONL keeps its text, to which the new keys are added."""
    names = file.names
    with _text(target) as text:
        for part, answers in answered:
            for place, cells in enumerate(answers):
                added = json.dumps(dict(zip(new, cells, strict=True)), ensure_ascii=False)
                if part.lines is not None:
                    own = part.lines[place].strip().removesuffix("}").rstrip()
                else:
                    row = {
                        name: value for name, value in zip(names, part.rows[place], strict=True) if value is not MISSING
                    }
                    own = json.dumps(row, ensure_ascii=False, default=_as_text).removesuffix("}")
                text.write(f"{own}{'' if own.endswith('{') else ', '}{added[1:]}\n")
    return []


def _write_parquet(file: InputFile, new: Mapping[str, Kind], answered: Answered, target: IO[bytes]) -> list[str]:
    """Write Parquet; columns of a Parquet or Arrow file keep their types, those of other files get one."""
    import pyarrow.parquet

    writer = None
    fields = [pa.field(name, _ARROW[kind]) for name, kind in new.items()]
    for part, answers in answered:
        table = part.table if part.table is not None else _typed(file, part)
        for field, values in zip(fields, zip(*answers, strict=True), strict=True):
            table = table.append_column(field, pa.array(values, field.type))
        kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != _OF_OTHER_COLUMNS}
        table = table.replace_schema_metadata(kept or None)
        writer = writer or pyarrow.parquet.ParquetWriter(target, table.schema)
        writer.write_table(table)
    if writer is None:  # a file without rows
        schema = pa.schema([*((name, TEXT) for name in file.names), *fields])
        writer = pyarrow.parquet.ParquetWriter(target, schema)
    writer.close()
    return []


def _typed(file: InputFile, part: InputPart) -> pa.Table:
    """The own columns of a part of a file without types; JSON values of no one type become JSON text."""
    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(file.names):
        kinds = file.kinds.get(name, {str}) - {type(None)}
        kind = next((arrow for some, arrow in _NAMED_KINDS if kinds <= some), None)
        values = [None if row[place] is MISSING else row[place] for row in part.rows]
        if kind is None:
            kind = TEXT
            values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        if kind == TEXT:
            values = [value and _encodable(value) for value in values]
        columns[free_column_name(_encodable(name), columns)] = pa.array(values, kind)
    return pa.table(columns)


def _encodable(text: str) -> str:
    """A text for the output file; half of a surrogate pair is written as JSON does."""
    return text.encode("utf-8", "backslashreplace").decode()


def _cells(file: InputFile, answered: Answered) -> Iterator[list[str]]:
    """Every row as texts, with its new cells."""
    for part, answers in answered:
        for row, cells in zip(part.rows, answers, strict=True):
            yield [*map(_cell, row), *map(_cell, cells)]


def _cell(value: Any) -> str:
    """A value as the text of a cell; nothing for null, JSON for lists and objects."""
    if isinstance(value, str):
        return value
    if value is None or value is MISSING:
        return ""
    if isinstance(value, bool | int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=_as_text)
    return _as_text(value)


def _as_text(value: Any) -> str:
    """Text to write to the output file for another type: a date as in ISO 8601, bytes as hexadecimal digits."""
    return value.hex() if isinstance(value, bytes) else str(value)


@contextmanager
def _text(target: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    """UTF-8 text into `target`, which stays open; half of a surrogate pair is written as JSON does."""
    text = io.TextIOWrapper(target, encoding="utf-8", newline="", errors="backslashreplace")
    try:
        yield text
    finally:
        text.detach()
