"""Read CSV files, whose cells may be quoted, and TSV files, whose cells may not."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from red_cli.errors import UserError, shown
from red_cli.formatting import number_of
from red_cli.recipe.sections import DELIMITER_NAMES
from red_cli.tasks.data.split_files import ending
from red_cli.tasks.data.text_file import open_text_file

LONGEST_CELL = 2**31 - 1  # characters; the library's own limit is 131,072
csv.field_size_limit(LONGEST_CELL)
_DELIMITERS = (",", ";", "\t", "|")  # that are found, the likelier first
_SAMPLE = 50  # records that a delimiter is found by
_RAGGED_HINTS = {
    True: "Put a cell that contains the delimiter or a line break between quotation marks. Another delimiter is named "
    "by data.delimiter.",
    False: "In a .tsv a tab or a line break always ends a cell. If cells are quoted, name the file .csv.",
}
_QUOTE_HINT = 'Inside a quoted cell, write a quotation mark twice (""). If marks are plain text, name the file .tsv.'


@dataclass(frozen=True)
class CsvForm:
    """How a file's cells are separated.

    Attributes:
        quoted: whether cells may stand between quotation marks.
        found: whether the delimiter is another than the ending says, and was found in the file.
    """

    delimiter: str
    quoted: bool
    found: bool = False

    @property
    def note(self) -> str | None:
        """What was guessed, for the user."""
        named = DELIMITER_NAMES.get(self.delimiter, f"'{self.delimiter}'")
        return f"the delimiter of the tables is {named}, as found in them (data.delimiter)" if self.found else None


@dataclass(frozen=True)
class Record:
    """The cells of a row, and the row's number in the file, from 1; the header is row 0."""

    number: int
    cells: list[str]


def form_of(path: Path, delimiter: str | None) -> CsvForm:
    """How a file's cells are separated: by `delimiter`, else by that of the ending if it fits, else by one that fits.

    A delimiter fits if the header has several columns, and the first rows as many.
    """
    own = "\t" if ending(path).startswith(".tsv") else ","
    if delimiter is not None:
        return CsvForm(delimiter, quoted=own == ",")
    candidates = [own, *(other for other in _DELIMITERS if other != own)]
    widths = {candidate: _width(path, CsvForm(candidate, quoted=own == ",")) for candidate in candidates}
    widest = max(candidates, key=lambda candidate: widths[candidate])
    found = widths[own] <= 1 < widths[widest]
    return CsvForm(widest if found else own, quoted=own == ",", found=found)


def records(path: Path, form: CsvForm) -> Iterator[Record]:
    """The header of a file and its rows; blank lines count as rows, but are left out.

    Raises:
        UserError: the file is no UTF-8 text, or a row has another number of cells than the header.
    """
    with open_text_file(path, newline="" if form.quoted else "\n") as file:
        split = _quoted(path, file, form.delimiter) if form.quoted else _plain(file, form.delimiter)
        width = 0
        for number, cells in enumerate(split):
            if number == 0:
                width = len(cells)
            elif not cells:
                continue
            elif len(cells) != width:
                what = f"{number_of(len(cells), 'cell')}, but the header has {width} columns"
                raise UserError("file-damaged", f"{path}, row {number}: {what}", hint=_RAGGED_HINTS[form.quoted])
            yield Record(number, cells)


def _quoted(path: Path, file: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each row of a CSV file whose cells may be quoted."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    row = line = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = "end of data" in str(error)
            what = "a quotation mark opens a cell and is never closed" if unclosed else _reason(error, delimiter)
            raise UserError("file-damaged", f"{path}, row {row} (line {line + 1}): {what}", hint=_QUOTE_HINT) from None
        yield cells
        row, line = row + 1, reader.line_num


def _reason(error: csv.Error, delimiter: str) -> str:
    """The reason for the CSV reader's error, in the words of a user."""
    if "expected after" in str(error):
        return f"text follows a closing quotation mark, where a {shown(delimiter)} is expected"
    return str(error)


def _plain(file: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each line of a TSV file, where quotation marks are text."""
    for line in file:
        text = line.removesuffix("\n").removesuffix("\r")
        yield text.split(delimiter) if text else []


def _width(path: Path, form: CsvForm) -> int:
    """The number of columns if the header and the first rows have the same; else 0."""
    try:
        widths = {len(record.cells) for record in islice(records(path, form), _SAMPLE)}
    except UserError:
        return 0
    return max(widths, default=0)
