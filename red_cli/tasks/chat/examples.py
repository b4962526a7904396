"""The examples of a split of conversations, gathered chunk by chunk into arrays."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from red_cli.tasks.chat.turn_tokens import TokenizedChat
from red_cli.tasks.data.growing import GrowingArray


@dataclass
class Examples:
    """The examples that the conversations of a split make.

    Attributes:
        max_length: most tokens of an example; a longer one is cut, or left out with `drop`.
        longest_prompt: examples with more tokens before the first answer are left out.
        rows: the row of each example.
        numbers: which example of its row each is, from 0; those that are left out count.
        left_out: reason -> number of examples that are left out for their length.
        cut: the rows of examples that are cut.
        lost: the rows of examples of which no token counts towards the loss.
    """

    max_length: int
    longest_prompt: int | None
    drop: bool
    rows: array[int] = field(default_factory=partial(array, "q"))
    numbers: array[int] = field(default_factory=partial(array, "i"))
    left_out: Counter[str] = field(default_factory=Counter)
    cut: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    _ids: GrowingArray = field(default_factory=partial(GrowingArray, np.int32))
    _mask: GrowingArray = field(default_factory=partial(GrowingArray, np.bool_))
    _lengths: array[int] = field(default_factory=partial(array, "q"))
    _labels: array[int] = field(default_factory=partial(array, "q"))
    _prompt_lengths: array[int] = field(default_factory=partial(array, "q"))

    def add(self, chats: Sequence[tuple[int, TokenizedChat]]) -> None:
        """Add rows as tokens; all examples of a row are added at once."""
        seen = Counter[int]()
        kept = []
        for row, chat in chats:
            if self._fits(chat):
                kept.append((row, chat))
                self.numbers.append(seen[row])
            seen[row] += 1
        lengths = [min(len(chat.ids), self.max_length) for _, chat in kept]
        mask = np.zeros(sum(lengths), np.bool_)
        start = 0
        for (row, chat), length in zip(kept, lengths, strict=True):
            for first, after in chat.turns:
                mask[start + first : start + min(after, length)] = True
            if len(chat.ids) > length:
                self.cut.append(row)
            if not any(max(first, 1) < min(after, length) for first, after in chat.turns):
                self.lost.append(row)
            start += length
        self._ids.extend_rows(chat.ids[: self.max_length] for _, chat in kept)
        starts = np.cumsum([0, *lengths])[:-1]
        mask[starts] = False  # nothing precedes the first token
        self._labels.extend(np.add.reduceat(mask, starts, dtype=np.int64).tolist() if kept else [])
        self._mask.extend(mask)
        self._lengths.extend(lengths)
        self.rows.extend(row for row, _ in kept)
        self._prompt_lengths.extend(chat.prompt_length for _, chat in kept)

    def arrays(self, answered: bool, whole: bool) -> Mapping[str, Any]:
        """The fields of EncodedTexts; with `whole` every token but the first counts towards the loss."""
        offsets = np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.int64)
        mask = self._mask.finish()
        labels = np.array(self._labels, dtype=np.int64)
        if whole:
            mask[:] = True
            mask[offsets[:-1]] = False
            labels = np.diff(offsets) - 1
        return {
            "features": {"input_ids": self._ids.finish()},
            "offsets": offsets,
            "labels": labels if answered else None,
            "loss_mask": mask,
            "prompt_lengths": np.array(self._prompt_lengths, dtype=np.int64),
            "numbers": np.array(self.numbers, dtype=np.int32) if any(self.numbers) else None,
        }

    def _fits(self, chat: TokenizedChat) -> bool:
        if self.longest_prompt is not None and chat.prompt_length > self.longest_prompt:
            self.left_out[f"a prompt of more than {self.longest_prompt:,} tokens"] += 1
            return False
        if self.drop and len(chat.ids) > self.max_length:
            self.left_out[f"more than {self.max_length:,} tokens"] += 1
            return False
        return True
