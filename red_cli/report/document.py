"""A report's content, once, for HTML and Markdown alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Heading:
    """Begins a part."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells of text; the first `left` columns are words, the others figures.

    Attributes:
        reference: numbers of the rows that are not ours but stand there to compare with.
        shades: for each cell 0 (nothing) to 1 (the most) or None, where the table is a heat map too.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    reference: frozenset[int] = frozenset()
    shades: Sequence[Sequence[float | None]] | None = None


@dataclass(frozen=True)
class Picture:
    """A picture by its file's name; `text` says in words what it shows."""

    name: str
    text: str


Block = Heading | Paragraph | Items | Table | Picture


@dataclass
class Document:
    """A title, blocks in order, and the pictures they name: file name -> PNG."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
