"""A document as Markdown; its pictures lie beside it."""

from __future__ import annotations

from collections.abc import Sequence

from red_cli.escape import markdown_text
from red_cli.report.document import Block, Document, Heading, Items, Paragraph, Picture, Table


def render_markdown(document: Document) -> str:
    """The whole text."""
    blocks = [f"# {markdown_text(document.title)}", *(_block(block) for block in document.blocks)]
    return "\n\n".join(blocks) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {markdown_text(block.text)}"
    if isinstance(block, Paragraph):
        return markdown_text(block.text)
    if isinstance(block, Items):
        return "\n".join(f"- {markdown_text(item)}" for item in block.items)
    if isinstance(block, Picture):
        return f"![{markdown_text(block.text)}]({block.name})\n\n{markdown_text(block.text)}"
    return _table(block)


def _table(table: Table) -> str:
    marks = ["---" if column < table.left else "---:" for column in range(len(table.header))]
    rows = [
        [f"*{text}*" if number in table.reference and text else text for text in (markdown_text(cell) for cell in row)]
        for number, row in enumerate(table.rows)
    ]
    return "\n".join(_line(cells) for cells in ([markdown_text(text) for text in table.header], marks, *rows))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
