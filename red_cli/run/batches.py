"""Which rows make up each optimiser step, and how a step is cut into micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """The order of training rows: random, decided by the seed and the epoch alone.

    Attributes:
        rows: how many there are.
        batch_size: rows of an optimiser step over all devices.
    """

    rows: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch_size)

    def epoch(self, epoch: int) -> list[Rows]:
        """The batches of one epoch; every row once, the last batch may be smaller."""
        rows = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        return [rows[start : start + self.batch_size] for start in range(0, self.rows, self.batch_size)]

    def from_step(self, step: int) -> Iterator[Rows]:
        """Batches of all steps after `step`, epoch after epoch, without end."""
        while True:
            epoch, done = divmod(step, self.steps_per_epoch)
            remaining = self.epoch(epoch)[done:]
            yield from remaining
            step += len(remaining)


def cut(rows: Rows, size: int) -> list[Rows]:
    """Cut a step's rows, in their order, into micro-batches of at most `size` rows."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def cut_by_length(rows: Rows, lengths: NDArray[np.int64], size: int, cost: int) -> list[Rows]:
    """Cut a step's rows into micro-batches of similar length, so that as little as possible is padding.

    The step keeps its rows, only who is padded with whom changes: the gradient is that of random batches, where
    sorting whole epochs by length would give steps of only short and only long rows.

    Args:
        lengths: tokens of every row of the split.
        size: most rows of a micro-batch.
        cost: what one more micro-batch costs, in tokens.

    Returns:
        The cut with the least tokens, padding included, plus `cost` for each micro-batch.
    """
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    longest = lengths[rows]
    best = np.zeros(len(rows) + 1, dtype=np.int64)
    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    for end in range(1, len(rows) + 1):
        first = max(0, end - size)
        candidates = best[first:end] + (end - np.arange(first, end)) * longest[end - 1] + cost
        choice = int(candidates.argmin())
        best[end], starts[end] = candidates[choice], first + choice
    pieces = []
    end = len(rows)
    while end > 0:
        pieces.append(rows[starts[end] : end])
        end = int(starts[end])
    return pieces


@dataclass(frozen=True)
class Piece:
    """Rows of a step that go through the model of one process together.

    Attributes:
        counted: whether they count; else the process has none left, and keeps step with the others on a row of theirs.
    """

    rows: Rows
    counted: bool = True


def deal(
    rows: Rows, lengths: NDArray[np.int64], index: int, count: int, cut: Callable[[Rows], list[Rows]]
) -> list[Piece]:
    """The part of a step's rows that process `index` of `count` takes, cut by `cut`.

    Rows are dealt out by length, so that every process has about as much to do, and every process has as many pieces:
    where each holds a part of the base, a forward pass is a matter of all.
    """
    if count == 1:
        return [Piece(part) for part in cut(rows)]
    by_length = rows[np.argsort(-lengths[rows], kind="stable")]
    hands = [cut(by_length[first::count]) if first < len(rows) else [] for first in range(count)]
    most = max(len(hand) for hand in hands)
    mine = _in_pieces(hands[index], most)
    return [Piece(part) for part in mine] + [Piece(by_length[-1:], counted=False)] * (most - len(mine))


def _in_pieces(parts: list[Rows], number: int) -> list[Rows]:
    """`parts` halved, the largest first, until there are `number` of them or each is a single row."""
    parts = list(parts)
    while parts and len(parts) < number:
        largest = max(range(len(parts)), key=lambda at: len(parts[at]))
        part = parts[largest]
        if len(part) == 1:
            break
        parts[largest : largest + 1] = [part[: len(part) // 2], part[len(part) // 2 :]]
    return parts
