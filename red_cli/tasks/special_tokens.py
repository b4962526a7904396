"""Special tokens of a tokenizer inside a user's texts: which, and in which rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from red_cli.tasks.data.rows import Rows

_SHOWN_ROWS = 5
_PREFIX = 3  # letters of a special token by which rows are preselected: some tokenizers have thousands of tokens


class Tokenizing(Protocol):
    """Something whose tokenizer has special tokens, such as a base."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


class TextReader(Protocol):
    """The part of an encoder that says which texts it reads."""

    @property
    def base(self) -> Tokenizing: ...

    def text_columns(self, rows: Rows) -> list[str]:
        """The columns of a split that texts are read from."""

    def carried(self, rows: Rows) -> dict[str, int]:
        """What the texts of rows carry though encoding adds it -> how many do."""


@dataclass(frozen=True)
class FoundRows:
    """Rows in whose texts special tokens were found: how many, and the numbers of the first, in words with files."""

    rows: int
    first: list[int]
    places: str


@dataclass(frozen=True)
class SpecialTokens:
    """Special tokens in the texts of a split.

    Attributes:
        rows: number of rows that contain any.
        tokens: special token -> the rows that contain it.
        carried: what is encoded once though a text carries it as well -> how many texts do.
    """

    rows: int
    tokens: dict[str, FoundRows]
    carried: dict[str, int]

    @classmethod
    def of(cls, reader: TextReader, rows: Rows) -> SpecialTokens:
        """The special tokens in the texts that `reader` reads from rows."""
        found, tokens = rows_with_special_tokens(rows, reader.text_columns(rows), reader.base.tokenizer)
        carried = reader.carried(rows.take(found.tolist())) if len(found) else {}
        return cls(len(found), tokens, carried)

    def lines(self, split: str) -> list[str]:
        """The findings in words, a line each; none if there are none."""
        if not self.rows:
            return []
        tokens = ", ".join(f"{token} ({_rows_text(found)})" for token, found in self.tokens.items())
        contain = "row of {} contains" if self.rows == 1 else "rows of {} contain"
        lines = [f"{self.rows:,} {contain.format(split)} special tokens of the tokenizer in their text: {tokens}"]
        if self.carried:
            counts = ", ".join(f"{what} ({count:,})" for what, count in self.carried.items())
            lines.append(f"{split}: a token that encoding adds anyway is encoded once, and not scored: {counts}")
        return lines


def rows_with_special_tokens(
    rows: Rows, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> tuple[NDArray[np.int64], dict[str, FoundRows]]:
    """Indices of rows whose texts contain special tokens; and the rows of each special token.

    Args:
        columns: columns of texts, also of texts inside lists and objects.
    """
    known = {
        *tokenizer.all_special_tokens,
        *(token.content for token in tokenizer.added_tokens_decoder.values() if token.special),
    }
    if not known:
        return np.array([], dtype=np.int64), {}
    prefixes = "|".join(re.escape(prefix) for prefix in sorted({token[:_PREFIX] for token in known}))
    exact = re.compile("|".join(re.escape(token) for token in sorted(known, key=len, reverse=True)))
    found: dict[int, set[str]] = {}
    for name in columns:
        for texts, owners in _texts(rows.table.column(name)):
            hits = pc.indices_nonzero(pc.match_substring_regex(texts, prefixes))
            for owner, text in zip(owners[hits.to_pylist()].tolist(), texts.take(hits).to_pylist(), strict=True):
                if tokens := set(exact.findall(text)):
                    found.setdefault(owner, set()).update(tokens)
    by_token: dict[str, list[int]] = {}
    for row in sorted(found):
        for token in sorted(found[row]):
            by_token.setdefault(token, []).append(row)
    counted = {token: _found(rows, indices) for token, indices in sorted(by_token.items())}
    return np.array(sorted(found), dtype=np.int64), counted


def _texts(column: pa.ChunkedArray) -> Iterator[tuple[pa.Array, NDArray[np.int64]]]:
    """Arrays of texts inside a column, with the index of the row that each text belongs to."""
    start = 0
    for chunk in column.chunks:
        yield from _leaves(chunk, np.arange(start, start + len(chunk), dtype=np.int64))
        start += len(chunk)


def _leaves(array: pa.Array, owners: NDArray[np.int64]) -> Iterator[tuple[pa.Array, NDArray[np.int64]]]:
    """Arrays of texts inside an array, in which special tokens are found, with the rows that they belong to."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary_decode(), owners)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield array, owners
    elif pa.types.is_struct(kind):
        for field in array.flatten():
            yield from _leaves(field, owners)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(array.flatten(), owners[pc.list_parent_indices(array).to_numpy()])


def _found(rows: Rows, indices: Sequence[int]) -> FoundRows:
    """How many rows of a user's texts have a special token inside, with the numbers of the first few."""
    first = indices[:_SHOWN_ROWS]
    return FoundRows(len(indices), [rows.number(index) for index in first], rows.numbers(first))


def _rows_text(found: FoundRows) -> str:
    """The rows with special tokens of the tokenizer inside, in words: the first few, and how many more."""
    more = f" and {found.rows - len(found.first):,} more" if found.rows > len(found.first) else ""
    return f"row {found.places}" if found.rows == 1 else f"rows {found.places}{more}"
