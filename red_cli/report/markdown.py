"""A document as Markdown; its pictures lie beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from red_cli.report.document import Block, Document, Heading, Items, Paragraph, Picture, Table

_SPECIAL = re.compile(r"([\\`*_|<>\[\]#~$&])")


def render_markdown(document: Document) -> str:
    """The whole text."""
    blocks = [f"# {_escaped(document.title)}", *(_block(block) for block in document.blocks)]
    return "\n\n".join(blocks) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {_escaped(block.text)}"
    if isinstance(block, Paragraph):
        return _escaped(block.text)
    if isinstance(block, Items):
        return "\n".join(f"- {_escaped(item)}" for item in block.items)
    if isinstance(block, Picture):
        return f"![{_escaped(block.text)}]({block.name})\n\n{_escaped(block.text)}"
    return _table(block)


def _table(table: Table) -> str:
    marks = ["---" if column < table.left else "---:" for column in range(len(table.header))]
    rows = [
        [f"*{text}*" if number in table.reference and text else text for text in (_escaped(cell) for cell in row)]
        for number, row in enumerate(table.rows)
    ]
    return "\n".join(_line(cells) for cells in ([_escaped(text) for text in table.header], marks, *rows))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text that no Markdown reader takes for a sign of its own, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
