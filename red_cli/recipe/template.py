"""Text with the names of columns in braces: "Question: {question}"."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, Field

_MOST_FIELDS = 100
_LONGEST = 100_000  # characters


def fields(template: str) -> list[str]:
    """The names in braces, each once, in their order.

    Raises:
        ValueError: a brace without its partner (double it to mean the sign itself), an empty or an adorned name.
    """
    names = []
    for _, name, form, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name.strip() or form or conversion or any(sign in name for sign in ".["):
            raise ValueError("names of columns in braces, such as {question}; {{ and }} for the signs themselves")
        names.append(name)
    return list(dict.fromkeys(names))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each name replaced by its value, which is taken as it is."""
    parts = []
    for text, name, _, _ in Formatter().parse(template):
        parts += [text, "" if name is None else values[name]]
    return "".join(parts)


def checked(template: str | None) -> str | None:
    """A template that names at least one column.

    Raises:
        ValueError: it does not, cannot be read, or is too long.
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
