"""Which rows make up each optimiser step, and how a step is cut into micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

RowIndices = NDArray[np.int64]


@dataclass(frozen=True)
class BatchSampler:
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

    def epoch(self, epoch: int) -> list[RowIndices]:
        """The batches of one epoch; every row once, the last batch may be smaller."""
        rows = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        return [rows[start : start + self.batch_size] for start in range(0, self.rows, self.batch_size)]

    def from_step(self, step: int) -> Iterator[RowIndices]:
        """Batches of all steps after `step`, epoch after epoch, without end."""
        while True:
            epoch, done = divmod(step, self.steps_per_epoch)
            remaining = self.epoch(epoch)[done:]
            yield from remaining
            step += len(remaining)


def split(rows: RowIndices, size: int) -> list[RowIndices]:
    """Cut a step's rows, in their order, into micro-batches of at most `size` rows."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def bucket_by_length(rows: RowIndices, lengths: NDArray[np.int64], size: int, cost: int) -> list[RowIndices]:
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
class MicroBatch:
    """Rows of a step that go through the model of one process together.

    Attributes:
        rows: all of them.
        packs: the rows of each sequence, where several share one; None: each row is a sequence of its own.
        is_dummy: True where the rows are another rank's and do not count; it keeps this rank's collectives in step
            after its own rows ran out.
    """

    rows: RowIndices
    packs: list[RowIndices] | None = None
    is_dummy: bool = False

    @classmethod
    def of_packs(cls, packs: list[RowIndices]) -> MicroBatch:
        """The micro-batch with one sequence for each pack."""
        return cls(np.concatenate(packs), packs)

    @property
    def sequences(self) -> int:
        """How many sequences the model sees at once."""
        return len(self.rows) if self.packs is None else len(self.packs)

    def halves(self) -> list[MicroBatch]:
        """Two micro-batches of about as many sequences each; the micro-batch itself where it is a single row."""
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
    """The part of a step's rows that process `index` of `count` takes, cut by `cut`.

    Rows are dealt out by length, so that every process has about as much to do, and every process has as many
    micro-batches: with a sharded base, every forward pass is collective.
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
    """`parts` halved, the largest first, until there are `number` of them or each is a single row."""
    parts = list(parts)
    while parts and len(parts) < number:
        largest = max(range(len(parts)), key=lambda at: len(parts[at].rows))
        halves = parts[largest].halves()
        if len(halves) == 1:
            break
        parts[largest : largest + 1] = halves
    return parts
