"""Texts from the columns of rows."""

from __future__ import annotations

from red_cli.errors import UserError, shown
from red_cli.recipe.template import fields, fill
from red_cli.tasks.data.tables import Rows


def column_texts(rows: Rows, name: str) -> list[str]:
    """A column's values, which are texts or numbers.

    Raises:
        UserError: there is no such column, or a value is neither (the row is named).
    """
    texts = []
    for row, value in enumerate(rows.column(name), start=1):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            what = "is null" if value is None else f"is {shown(value)}, not text"
            raise UserError(f"{rows.source}, row {row}: column {shown(name)} {what}")
        texts.append(str(value))
    return texts


def filled_texts(rows: Rows, template: str) -> list[str]:
    """The template, filled from the columns that it names; the same errors."""
    names = fields(template)
    columns = [column_texts(rows, name) for name in names]
    return [fill(template, dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def first_blank(rows: Rows, names: list[str]) -> int | None:
    """The number, from 1, of the first row in which all the columns `names` are blank."""
    columns = [column_texts(rows, name) for name in names]
    blank = (row for row, values in enumerate(zip(*columns, strict=True), 1) if not "".join(values).strip())
    return next(blank, None)
