"""Read JSONL files, JSON lists of objects, and JSON objects whose one list of objects is the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from red_cli.errors import UserError, first_line, shown
from red_cli.tasks.data.split_files import ending
from red_cli.tasks.data.text_file import open_text_file

_MESSAGE_KEYS = ({"role", "content"}, {"from", "value"})  # an object with these is a turn of a conversation, not a row
_BAD_VALUES = (ValueError, RecursionError)  # beyond bad syntax: too many digits, too deeply nested


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file, each with its number: the line of a JSONL file, the element of a list; from 1.

    Raises:
        UserError: the file is no UTF-8 text, or a line or an element is not a JSON object.
    """
    if not is_document(path):
        yield from ((number, row) for number, _, row in written_lines(path))
        return
    with open_text_file(path) as file:
        content = _parsed(path, file.read())
    for number, row in enumerate(_list_of(path, content), start=1):
        if not isinstance(row, dict):
            raise _no_object(path, f"element {number}", row)
        yield number, row


def written_lines(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The lines of a JSONL file: number, text and object of each; blank lines are skipped.

    Raises:
        UserError: the file is no UTF-8 text, or a line is not a JSON object.
    """
    with open_text_file(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError("invalid-json", f"{path}, line {number}: not valid JSON: {error.msg}") from None
            except _BAD_VALUES as error:
                raise UserError("invalid-json", f"{path}, line {number}: {first_line(error)}") from None
            if not isinstance(row, dict):
                raise _no_object(path, f"line {number}", row)
            yield number, line, row


def is_document(path: Path) -> bool:
    """Whether the file is one JSON value rather than an object in each line."""
    with open_text_file(path, newline="\n") as file:
        lines = (line for line in file if not line.isspace())
        first, second = next(lines, ""), next(lines, None)
    if first.lstrip().startswith("["):
        return True
    try:
        row = json.loads(first)
    except json.JSONDecodeError as error:
        # A line that ends too soon begins a value of several lines, unless the next line is a row
        return error.pos >= len(first.rstrip()) and second is not None and not _is_object(second)
    except _BAD_VALUES:
        return False
    return second is None and not ending(path).startswith(".jsonl") and _rows_in(row) is not None


def _is_object(line: str) -> bool:
    """Whether a line of text is a complete JSON object, as a row of JSONL is."""
    try:
        return isinstance(json.loads(line), dict)
    except _BAD_VALUES:
        return False


def _parsed(path: Path, text: str) -> Any:
    """The value of the text of a whole JSON file; invalid JSON is an error that names the file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = None
        if error.msg == "Extra data":
            hint = "Write each object in a line of its own, or all of them in one list: [{…}, {…}]"
        raise UserError(
            "invalid-json", f"{path}, line {error.lineno}: not valid JSON: {error.msg}", hint=hint
        ) from None
    except _BAD_VALUES as error:
        raise UserError("invalid-json", f"{path}: {first_line(error)}") from None


def _list_of(path: Path, content: Any) -> list[Any]:
    """The rows of a document."""
    if isinstance(content, list):
        return content
    rows = _rows_in(content)
    if rows is not None:
        return rows
    lists = [key for key, value in content.items() if isinstance(value, list)]
    if len(lists) > 1 and not any(isinstance(part, dict) for key in lists for part in content[key]):
        raise UserError(
            "invalid-json",
            f"{path} has a list for each column ({shown(lists[0])}, {shown(lists[1])}, …)",
            hint='Write an object for each row: {"text": …, "label": …}',
        )
    return [content]


def _rows_in(content: Any) -> list[Any] | None:
    """The one list of objects in an object such as {"version": 1, "data": [{…}, {…}]}; None if it is a row itself."""
    if not isinstance(content, dict):
        return None
    lists = [value for value in content.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) != 1 or any(keys <= lists[0][0].keys() for keys in _MESSAGE_KEYS):
        return None
    return lists[0]


def _no_object(path: Path, where: str, found: object) -> UserError:
    """The error for a row of a JSON file that is not an object."""
    return UserError(
        "invalid-json",
        f'{path}, {where}: expected an object such as {{"text": …, "label": …}}, got {shown(found)}',
    )
