"""Templates: text with column names in braces, such as "Question: {question}"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

from red_cli.errors import nearest, one_line

_LARGEST_TEMPLATE = 500_000  # bytes; the run folder's recipe contains the text
OWN = "own"
OWN_NAMED = "own:"  # before the name of one of several templates of a tokenizer
NAMED_TEMPLATES = ("alpaca", "human-assistant")
_files: dict[str, str] = {}  # the text of a template that was read -> the name of its file, for messages

_MOST_FIELDS = 100
_LONGEST = 100_000  # characters


def template_fields(template: str) -> list[str]:
    """The distinct names in braces in a template's text, in order.

    Raises:
        ValueError: a brace is unmatched (a literal brace is doubled), or a name is empty or has a format or attribute.
    """
    names = []
    for _, name, form, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name.strip() or form or conversion or any(character in name for character in ".["):
            raise ValueError("column names in braces, such as {question}; {{ and }} for literal braces")
        names.append(name)
    return list(dict.fromkeys(names))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each name replaced by its value; braces in values are kept."""
    parts = []
    for text, name, _, _ in Formatter().parse(template):
        parts += [text, "" if name is None else values[name]]
    return "".join(parts)


def checked(template: str | None) -> str | None:
    """Validate a template and return it.

    Raises:
        ValueError: it names no column, is malformed, or is too long.
    """
    if template is None:
        return None
    if len(template) > _LONGEST:
        raise ValueError(f"text of at most {_LONGEST:,} characters")
    try:
        names = template_fields(template)
    except ValueError as error:
        raise ValueError(f"text with columns in braces ({str(error).lower()})") from None
    if not names:
        raise ValueError("text with at least one column in braces, such as {question}")
    if sum(name is not None for _, name, _, _ in Formatter().parse(template)) > _MOST_FIELDS:
        raise ValueError(f"text with at most {_MOST_FIELDS} columns in braces")
    return template


Template = Annotated[str, AfterValidator(checked)]
LabelTexts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)]


def read_template(template: str) -> str:
    """The text of the template file that task.template of the settings names; a known name stays unchanged.

    Raises:
        ValueError: the file does not exist, or is not a template.
    """
    if not is_template_file(template):
        return template
    path = Path(template)
    if not _is_file(path):
        near = nearest(path.name, (OWN, *NAMED_TEMPLATES))
        meant = f" (nearest: {near[0]})" if near else ""
        raise ValueError(f"{OWN}, {', '.join(NAMED_TEMPLATES)} or a Jinja file{meant}; there is no such file")
    if path.stat().st_size > _LARGEST_TEMPLATE:
        raise ValueError(f"a Jinja file; {one_line(template)} is too large")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"a Jinja file; {one_line(template)} is not a text file") from None
    if is_template_file(text):
        raise ValueError(f"a Jinja file; {one_line(template)} has no expression in braces")
    if "\0" in text:
        raise ValueError(f"a Jinja file; {one_line(template)} contains a NUL character")
    _files[text] = path.name
    return text


def template_file(text: str) -> str | None:
    """The name of the file that a template's text was read from; None if this process read none."""
    return _files.get(text)


def is_template_file(template: str) -> bool:
    """Whether the text of a template names a file: it has no {{ or {% and is no known template's name."""
    known = template in (OWN, *NAMED_TEMPLATES) or template.startswith(OWN_NAMED)
    return not known and "{{" not in template and "{%" not in template


def _is_file(path: Path) -> bool:
    """Whether the template of the instruction settings is a file; names that no file can have are not files."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or not a valid path
        return False
