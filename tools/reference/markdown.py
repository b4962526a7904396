"""Markdown of generated pages: tables, code, headings, and text that has no markup of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from red_cli.escape import markdown_code

MAKE = "python tools/make_reference.py"
_NOTE = f"<!-- Made from the code by `{MAKE}`. Change the code, not this page, and run it again. -->"
# Characters that Markdown or HTML would take for markup in a description; signs inside words stay as they are
_CODE = re.compile(r"(`[^`]+`)")
_MARKUP = re.compile(r"[\\`*<>\[\]~$&|]|(?<!\w)_|_(?!\w)")


def page(title: str, *parts: str) -> str:
    """A page with a heading; `parts` are its blocks."""
    return "\n\n".join((_NOTE, f"# {title}", *(part.strip("\n") for part in parts if part))) + "\n"


def text(plain: str) -> str:
    """A description on one line, whose characters stand for themselves; only what is in backticks is code."""
    parts = _CODE.split(" ".join(plain.split()))
    return "".join(
        code(part[1:-1]) if _CODE.fullmatch(part) else _MARKUP.sub(lambda match: f"\\{match[0]}", part)
        for part in parts
    )


def sentence(plain: str) -> str:
    """A description as `text`, with a full stop at its end."""
    return plain and (text(plain) if plain.rstrip().endswith((".", "?", "!")) else f"{text(plain.rstrip())}.")


def code(words: str) -> str:
    """A code span that may stand in a table; one with a `|`, which would end a cell, is written as HTML."""
    return f"<code>{escape(words).replace('|', '&#124;')}</code>" if "|" in words else markdown_code(words)


def codes(words: Iterable[str], separator: str = ", ") -> str:
    """Several code spans."""
    return separator.join(code(word) for word in words)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a column that is empty in every row is left out."""
    rows = [tuple(cell.replace("\n", " ") for cell in row) for row in rows]
    kept = [number for number in range(len(headings)) if any(row[number] for row in rows)]
    lines = [[headings[number] for number in kept], ["---"] * len(kept), *([row[n] for n in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def block(lines: Iterable[str], language: str = "bash") -> str:
    """A code block."""
    return "\n".join((f"```{language}", *lines, "```"))
