"""A document as one HTML file that needs nothing else: styles and pictures inside, no script, no network."""

from __future__ import annotations

import base64
import html

from red_cli.escape import terminal_text
from red_cli.report.document import Block, Document, Heading, Items, Paragraph, Picture, Table

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; max-width: 80rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; overflow-wrap: normal; }
th, td { padding: .25rem .5rem; font-size: .87rem; border-bottom: 1px solid #d0d7de; text-align: right;
  vertical-align: top; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
th.left, td.left { text-align: left; white-space: normal; min-width: 6rem; }
p, ul { max-width: 50rem; }
tr.reference td { color: #59636e; font-style: italic; }
img { max-width: 100%; height: auto; }
figure { margin: .75rem 0; } figcaption { color: #59636e; }
"""
# Of a table that is a heat map: nothing, and the most, on which dark ink still reads well
_LEAST, _MOST = (255, 255, 255), (107, 174, 214)


def render_html(document: Document) -> str:
    """The whole page."""
    body = "\n".join(_block(block, document) for block in document.blocks)
    title = _escaped(document.title)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _block(block: Block, document: Document) -> str:
    if isinstance(block, Heading):
        return f"<h2>{_escaped(block.text)}</h2>"
    if isinstance(block, Paragraph):
        return f"<p>{_escaped(block.text)}</p>"
    if isinstance(block, Items):
        return "<ul>\n" + "\n".join(f"<li>{_escaped(item)}</li>" for item in block.items) + "\n</ul>"
    if isinstance(block, Picture):
        data = base64.b64encode(document.pictures[block.name]).decode()
        text = _escaped(block.text)
        return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'
    return _table(block)


def _table(table: Table) -> str:
    def words(column: int) -> str:
        return ' class="left"' if column < table.left else ""

    header = "".join(f"<th{words(column)}>{_escaped(text)}</th>" for column, text in enumerate(table.header))
    lines = []
    for number, row in enumerate(table.rows):
        cells = "".join(
            f"<td{words(column)}{_shade(table, number, column)}>{_escaped(text)}</td>"
            for column, text in enumerate(row)
        )
        kind = ' class="reference"' if number in table.reference else ""
        lines.append(f"<tr{kind}>{cells}</tr>")
    head = f"<thead><tr>{header}</tr></thead>\n" if any(table.header) else ""
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n{head}<tbody>\n{body}\n</tbody>\n</table></div>'


def _escaped(text: str) -> str:
    return html.escape(terminal_text(text))


def _shade(table: Table, row: int, column: int) -> str:
    share = None if table.shades is None else table.shades[row][column]
    if share is None:
        return ""
    red, green, blue = (round(least + (most - least) * share) for least, most in zip(_LEAST, _MOST, strict=True))
    return f' style="background: rgb({red} {green} {blue})"'
