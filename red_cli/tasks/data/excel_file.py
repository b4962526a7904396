"""Read the first sheet of Excel workbooks, with every cell as text, as in a CSV file."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from red_cli.errors import UserError, first_line, shown

INSTALL = "pip install 'red-finetune[excel]'"


def sheet_rows(path: Path) -> tuple[list[list[str]], str | None]:
    """The rows of the first sheet, the header first; and a note if there are several sheets.

    A number is written without needless decimals, a date as YYYY-MM-DD, and a truth value as true or false.

    Raises:
        UserError: the extra `excel` is not installed, or the file is not a workbook.
    """
    if importlib.util.find_spec("python_calamine") is None:
        raise UserError("missing-dependency", f"{path}: Excel workbooks need an extra", hint=f"Install it: {INSTALL}")
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_path(str(path))
        names = book.sheet_names
        rows = book.get_sheet_by_index(0).to_python(skip_empty_area=False) if names else []
    except (CalamineError, OSError) as error:
        raise UserError("file-damaged", f"{path} cannot be read: {first_line(error)}") from None
    note = f"of the {len(names)} sheets of {path.name} only the first is read: {shown(names[0])}"
    return list(_texts(rows)), note if len(names) > 1 else None


def _texts(rows: list[list[Any]]) -> Iterator[list[str]]:
    """The cells as text; a row without any is empty."""
    for row in rows:
        cells = [_text(cell) for cell in row]
        yield cells if any(cells) else []


def _text(cell: Any) -> str:
    """The text of a worksheet's cell."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
