"""Templates: text with column names in braces, such as "Question: {question}"."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

_MOST_FIELDS = 100
_LONGEST = 100_000  # characters


def fields(template: str) -> list[str]:
    """The distinct names in braces, in order.

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
        names = fields(template)
    except ValueError as error:
        raise ValueError(f"text with columns in braces ({str(error).lower()})") from None
    if not names:
        raise ValueError("text with at least one column in braces, such as {question}")
    if sum(name is not None for _, name, _, _ in Formatter().parse(template)) > _MOST_FIELDS:
        raise ValueError(f"text with at most {_MOST_FIELDS} columns in braces")
    return template


Template = Annotated[str, AfterValidator(checked)]
LabelTexts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)]
