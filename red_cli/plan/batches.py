"""Select the rows of each optimiser step, and split them into micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

RowIndices = NDArray[np.int64]


@dataclass(frozen=True)
class BatchSampler:
    """Shuffle the training rows; the order depends on seed and epoch only.

    Attributes:
        rows: the number of training rows.
        batch_size: rows of an optimiser step over all ranks.
    """

    rows: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch_size)

    def epoch(self, epoch: int) -> list[RowIndices]:
        """The batches of an epoch. Each row occurs once; the last batch may be smaller."""
        rows = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        return [rows[start : start + self.batch_size] for start in range(0, self.rows, self.batch_size)]

    def from_step(self, step: int) -> Iterator[RowIndices]:
        """Yield the batches of all steps after `step`, without end."""
        while True:
            epoch, done = divmod(step, self.steps_per_epoch)
            remaining = self.epoch(epoch)[done:]
            yield from remaining
            step += len(remaining)


def split(rows: RowIndices, size: int) -> list[RowIndices]:
    """Split a step's rows, in their order, into micro-batches of at most `size` rows."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def bucket_by_length(rows: RowIndices, lengths: NDArray[np.int64], size: int, cost: int) -> list[RowIndices]:
    """Split a step's rows into micro-batches of similar length, to save padding.

    The step keeps its rows, so its gradient is that of a random batch; sorting the epoch by length would give steps of
    only short or only long rows.

    Args:
        lengths: the tokens of each row of the training split.
        size: the maximum number of rows of a micro-batch.
        cost: the cost of a further micro-batch, in tokens.

    Returns:
        The micro-batches with the lowest sum of tokens, padding and costs.
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
class MicroBatch:
    """Rows of a step that one rank passes through the model together.

    Attributes:
        rows: the row indices.
        packs: the rows of each packed sequence; None if each row is a sequence.
        is_dummy: True if the rows belong to another rank and do not count; a dummy keeps this rank's collectives in
            sync after its own rows ran out.
    """

    rows: RowIndices
    packs: list[RowIndices] | None = None
    is_dummy: bool = False

    @classmethod
    def of_packs(cls, packs: list[RowIndices]) -> MicroBatch:
        """The micro-batch with one sequence per pack."""
        return cls(np.concatenate(packs), packs)

    @property
    def sequences(self) -> int:
        """The number of sequences."""
        return len(self.rows) if self.packs is None else len(self.packs)

    @property
    def rows_by_sequence(self) -> list[list[int]]:
        """The rows of each sequence."""
        packs = self.rows[:, None] if self.packs is None else self.packs
        return [rows.tolist() for rows in packs]

    def halves(self) -> list[MicroBatch]:
        """Split into two micro-batches of about equal size; a single row is not split."""
        if len(self.rows) == 1:
            return [self]
        if self.packs is None:
            middle = len(self.rows) // 2
            return [MicroBatch(self.rows[:middle]), MicroBatch(self.rows[middle:])]
        if len(self.packs) > 1:
            middle = len(self.packs) // 2
            return [MicroBatch.of_packs(self.packs[:middle]), MicroBatch.of_packs(self.packs[middle:])]
        middle = len(self.rows) // 2
        return [MicroBatch.of_packs([part]) for part in (self.rows[:middle], self.rows[middle:])]


def shard_micro_batches(
    rows: RowIndices,
    lengths: NDArray[np.int64],
    index: int,
    count: int,
    split: Callable[[RowIndices], list[MicroBatch]],
) -> list[MicroBatch]:
    """The micro-batches into which rank `index` of `count` splits its share of a step's batch, made by `split`.

    Rows are distributed by length, so that all ranks have about the same work. All ranks get the same number of
    micro-batches, because with a sharded base every forward pass is collective.
    """
    if count == 1:
        return split(rows)
    by_length = rows[np.argsort(-lengths[rows], kind="stable")]
    shards = [split(by_length[first::count]) if first < len(rows) else [] for first in range(count)]
    most = max(len(shard) for shard in shards)
    mine = _in_pieces(shards[index], most)
    idle = [replace(split(by_length[-1:])[0], is_dummy=True)]
    return mine + idle * (most - len(mine))


def _in_pieces(parts: list[MicroBatch], number: int) -> list[MicroBatch]:
    """Halve `parts`, the largest first, until there are `number` of them or each is a single row."""
    parts = list(parts)
    while parts and len(parts) < number:
        largest = max(range(len(parts)), key=lambda at: len(parts[at].rows))
        halves = parts[largest].halves()
        if len(halves) == 1:
            break
        parts[largest : largest + 1] = halves
    return parts
