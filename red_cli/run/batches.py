"""Which rows make up each optimiser step, and how a step is cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
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
