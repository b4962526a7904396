"""The sentences of a Markdown page: those of its paragraphs, list items and table cells, without headings and code.

`python -m tests.documents.prose` prints the mean length of each page's sentences, and the longest.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it.token import Token

from tests.documents.pages import GUIDE, name_of, tokens_of

_CODE = "\ue000"  # stands for a code span, which counts as one word
_NO_END = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|al|Fig|No|Nr|approx|St)\.|(?<![\w-])[A-Z]\.)[\"')\]]*$")
_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s+[^\sa-z])")
_WORD = re.compile(rf"[\w{_CODE}]")


@dataclass(frozen=True)
class Sentence:
    """A sentence with its line of the page; `whole` if it is part of a text, not a cell of a table."""

    text: str
    line: int
    words: int
    whole: bool


def sentences_of(text: str) -> list[Sentence]:
    """The sentences of a page in order. The text of links counts, their targets and pictures do not."""
    found, parents = [], []
    for token in tokens_of(text):
        if token.nesting == 1:
            parents.append(token.type)
        elif token.nesting == -1:
            parents.pop()
        elif token.type == "inline" and token.map and not {"heading_open", "thead_open"} & {*parents}:
            found += _sentences_in(token, "td_open" not in parents)
    return found


def mean_length(sentences: Sequence[Sentence]) -> float:
    """Words per sentence, without the cells of tables."""
    return statistics.fmean([sentence.words for sentence in sentences if sentence.whole] or [0])


def _sentences_in(token: Token, whole: bool) -> list[Sentence]:
    assert token.map
    plain, spans = _plain_text(token.children or [])
    ends = [match.end() for match in _END.finditer(plain) if not _NO_END.search(plain[: match.end()])]
    found = []
    for start, end in pairwise([0, *ends, len(plain)]):
        part = plain[start:end]
        words = sum(bool(_WORD.search(word)) for word in part.split())
        if words:
            line = token.map[0] + 1 + plain[: start + len(part) - len(part.lstrip())].count("\n")
            before = plain[:start].count(_CODE)
            filled = iter(spans[before:])
            shown = re.sub(_CODE, lambda _, filled=filled: f"`{next(filled)}`", " ".join(part.split()))
            found.append(Sentence(shown, line, words, whole))
    return found


def _plain_text(children: Sequence[Token]) -> tuple[str, list[str]]:
    """The text of a paragraph with a character for each code span; and the spans."""
    plain, spans = "", []
    for child in children:
        if child.type == "code_inline":
            plain += _CODE
            spans.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            plain += "\n"
        elif child.type == "text":
            plain += child.content
    return plain, spans


def main() -> None:
    together: list[Sentence] = []
    for page in GUIDE:
        sentences = sentences_of(page.read_text())
        together += sentences
        print(described(page, sentences))
    print(f"all pages: {mean_length(together):.1f} words a sentence")


def described(page: Path, sentences: Sequence[Sentence]) -> str:
    """A page's figures as a line."""
    longest = max((sentence.words for sentence in sentences), default=0)
    return f"{name_of(page)}: {mean_length(sentences):.1f} words a sentence, {longest} in the longest"


if __name__ == "__main__":
    main()
