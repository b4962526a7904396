"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
GUIDE = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
_COMMENT = re.compile(r"<!--\s*(?:(?P<slow>slow)|not run:\s*(?P<reason>.+?))\s*-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: the page's line of its first line of text, and, if it is not run, the reason."""

    language: str
    text: str
    line: int
    slow: bool = False
    not_run: str = ""


def tokens_of(text: str) -> list[Token]:
    """A page as Markdown tokens, tables included. Each block's token has its lines in `map`, counted from 0."""
    return MarkdownIt("commonmark").enable("table").parse(text)


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a page in order, with what the HTML comments right before them say."""
    blocks, comment = [], ""
    for token in tokens_of(text):
        if token.type == "fence" and token.map:
            found = list(_COMMENT.finditer(comment))
            blocks.append(
                Block(
                    language=token.info.partition(" ")[0],
                    text=token.content,
                    line=token.map[0] + 2,
                    slow=any(match["slow"] for match in found),
                    not_run=next((match["reason"] for match in found if match["reason"]), ""),
                )
            )
        comment = token.content if token.type == "html_block" else ""
    return blocks


def name_of(page: Path) -> str:
    """A page's path from the root of the project."""
    return page.relative_to(ROOT).as_posix()
