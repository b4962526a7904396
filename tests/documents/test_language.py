"""The language of the documentation: short sentences, and the field's terms instead of words of our own."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents.pages import GUIDE, ROOT, name_of
from tests.documents.prose import described, mean_length, sentences_of

MOST_WORDS = 30

# A pattern -> what to write instead
RETIRED = {
    r"learnt": "trained; counts towards the loss",
    r"com(?:es?|ing) along": "bundled",
    r"go(?:es|ne)? on|going on with": "continue; resume",
    r"anew|afresh": "again",
    r"told(?! apart)": "shown; reported",
    r"(?:told|tells?) (?:\w+ ){0,3}apart": "distinguish",
    r"beside": "next to",
    r"lack(?:s|ed|ing)?": "has no; does not have",
    r"by turns": "alternately; in turn",
    r"aloud": "with a warning",
    r"kin": "relatives; subclasses",
    r"(?:letters|digits|\d+) (?:and )?signs": "characters",
    r"spared": "excluded; not decayed",
    r"till": "until",
    r"mend(?:s|ed|ing)?": "fix",
    r"shall": "must; does",
    r"for ever": "forever",
    r"put down|laid down": "written",
    r"dealt|deals? out": "distributed; sharded",
    r"br(?:eaks?|oken?) away": "diverges",
    r"(?:kept|keeps?) step": "stays in sync",
    r"thereof|therein|thereby|whereof|wherein|whereby|hereby|herein|thence|whence|forthwith": "of it; in it; so",
    r"upon": "on",
    r"talk(?:s|ed) (?:to|with)": "chat",
    r"one behind (?:the other|another)": "one after another; packed",
    r"foreign": "other; third-party",
    r"stranger'?s?": "someone else",
    r"in the making": "unfinished",
}
PATTERN = re.compile(
    rf"\b(?:{'|'.join(f'(?P<r{index}>{pattern})' for index, pattern in enumerate(RETIRED))})\b", re.IGNORECASE
)
# File -> retired words that it needs
ALLOWED = {
    "red_cli/plan/data_summary.py": {"learnt"},  # a field, and a key of `red check --json`
}


def guide_pages() -> list[object]:
    return [pytest.param(page, id=name_of(page)) for page in GUIDE]


@pytest.mark.parametrize("page", guide_pages())
def test_sentences_are_short(page: Path) -> None:
    sentences = sentences_of(page.read_text())
    print(described(page, sentences))
    long = [sentence for sentence in sentences if sentence.words > MOST_WORDS]
    told = [f"{name_of(page)}:{sentence.line}: {sentence.words} words: {sentence.text}" for sentence in long]
    assert not told, "\n".join(told)


def test_no_retired_word() -> None:
    """In pages, recipes, and the docstrings, messages and comments of the package."""
    found = []
    for path, line, text in texts():
        name = path.relative_to(ROOT).as_posix()
        for match in PATTERN.finditer(text):
            if match[0].lower() in ALLOWED.get(name, ()):
                continue
            instead = RETIRED[[*RETIRED][int((match.lastgroup or "r0")[1:])]]
            found.append(f"{name}:{line + text[: match.start()].count(chr(10))}: {match[0]!r}: {instead}")
    assert not found, "\n".join(found)


def texts() -> Iterator[tuple[Path, int, str]]:
    """File, line, and text to look through."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "recipes").glob("**/*.md")]
    for path in sorted(pages):
        for sentence in sentences_of(path.read_text()):
            yield path, sentence.line, re.sub("`.*?`", "", sentence.text)
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        yield path, 1, path.read_text()
    for path in sorted((ROOT / "red_cli").glob("**/*.py")):
        source = path.read_text()
        yield from ((path, line, text) for line, text in words_of_code(source))
    for path in sorted((ROOT / "red_cli").glob("**/*.j2")):
        yield path, 1, path.read_text()


def words_of_code(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of the strings with spaces, which somebody reads, and of the comments of Python code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_the_glossary_is_alphabetical() -> None:
    rows = (ROOT / "docs" / "glossary.md").read_text().partition("| --- |")[2].splitlines()[1:]
    terms = [row.split("|")[1].strip() for row in rows]
    assert len(terms) > 40
    assert terms == sorted(terms, key=str.lower)


def test_sentences_of_a_page() -> None:
    page = """
# A heading of some words. More.

The first sentence
has `red train x.y. Z` in it. `second` is short, e.g. Five words. See [a. link](http://b.c/D.E)!
(Is it "so"?) Press Ctrl-C. Version 1.2 of 3.10 stays.

- an item
  - another. With two

| a head | b |
| --- | --- |
| cell one. Two | `code` |

```bash
not. This
```
"""
    found = sentences_of(page)
    assert [(sentence.line, sentence.words, sentence.whole) for sentence in found] == [
        (4, 7, True), (5, 6, True), (5, 3, True), (6, 3, True), (6, 2, True), (6, 5, True),
        (8, 2, True), (9, 1, True), (9, 2, True), (13, 2, False), (13, 1, False), (13, 1, False),
    ]  # fmt: skip
    assert found[0].text == "The first sentence has `red train x.y. Z` in it."
    assert found[1].text == "`second` is short, e.g. Five words."
    assert mean_length(found) == pytest.approx((7 + 6 + 3 + 3 + 2 + 5 + 2 + 1 + 2) / 9)


@pytest.mark.parametrize(
    ("text", "retired"),
    [
        ("It goes on where it was.", "goes on"),
        ("Tell them apart", "Tell them apart"),
        ("it lacked a head", "lacked"),
        ("the relearnt and the skin", None),
        ("a dollar sign", None),
    ],
)
def test_retired_words_are_found(text: str, retired: str | None) -> None:
    found = PATTERN.search(text)
    assert (found and found[0]) == retired
