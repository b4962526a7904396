"""The order of rows, and their split into micro-batches."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from red_cli.plan.batches import BatchSampler, MicroBatch, bucket_by_length, shard_micro_batches, split


def test_every_row_once_an_epoch_and_other_batches_each_time() -> None:
    order = BatchSampler(rows=103, batch_size=10, seed=3)
    assert order.steps_per_epoch == 11
    epochs = [order.epoch(number) for number in (0, 1)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [10] * 10 + [3]
        assert sorted(np.concatenate(batches)) == list(range(103))
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))
    again = BatchSampler(rows=103, batch_size=10, seed=3).epoch(1)
    assert np.array_equal(np.concatenate(epochs[1]), np.concatenate(again))


def test_resuming_at_any_step_gives_the_same_batches() -> None:
    order = BatchSampler(rows=25, batch_size=4, seed=0)
    uninterrupted = list(islice(order.from_step(0), 20))
    for step in range(20):
        rest = list(islice(order.from_step(step), 20 - step))
        assert all(np.array_equal(*pair) for pair in zip(rest, uninterrupted[step:], strict=True))


@pytest.mark.parametrize("size", [1, 5, 32])
@pytest.mark.parametrize("cost", [0, 64, 10**6])
def test_buckets_by_length_keep_the_rows_and_never_cost_more(size: int, cost: int) -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 70, 200)
    rows = generator.permutation(200)[:32]

    def total(pieces: list) -> int:
        return sum(len(piece) * lengths[piece].max() + cost for piece in pieces)

    pieces = bucket_by_length(rows, lengths, size, cost)
    assert sorted(np.concatenate(pieces)) == sorted(rows)
    assert max(len(piece) for piece in pieces) <= size
    assert total(pieces) <= total(split(rows, size))
    if cost == 10**6:
        assert len(pieces) == len(split(rows, size))
    if size == 32 and cost == 64:
        assert total(pieces) < 0.75 * total(split(rows, size))


STEPS = st.lists(st.integers(1, 200), min_size=1, max_size=40).flatmap(
    lambda lengths: st.tuples(st.just(lengths), st.permutations(range(len(lengths))), st.integers(1, len(lengths)))
)


def drawn(step: tuple[list[int], list[int], int]) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of all rows of a split, and the rows of a step: some of them, in any order."""
    lengths, rows, count = step
    return np.array(lengths), np.array(rows[:count])


@given(STEPS, st.integers(1, 50), st.integers(0, 300))
def test_micro_batches_lose_no_row(step: tuple[list[int], list[int], int], size: int, cost: int) -> None:
    lengths, rows = drawn(step)
    assert np.concatenate(split(rows, size)).tolist() == rows.tolist()
    for pieces in (split(rows, size), bucket_by_length(rows, lengths, size, cost)):
        assert all(0 < len(piece) <= size for piece in pieces)
        assert sorted(np.concatenate(pieces)) == sorted(rows)


@given(STEPS, st.integers(1, 50), st.integers(1, 9), st.booleans())
def test_sharded_rows_count_once(
    step: tuple[list[int], list[int], int], size: int, processes: int, by_length: bool
) -> None:
    lengths, rows = drawn(step)

    def pieces(part: np.ndarray) -> list[MicroBatch]:
        return [
            MicroBatch(rows) for rows in (bucket_by_length(part, lengths, size, 8) if by_length else split(part, size))
        ]

    shards = [shard_micro_batches(rows, lengths, index, processes, pieces) for index in range(processes)]
    counted = [row for shard in shards for piece in shard if not piece.is_dummy for row in piece.rows.tolist()]
    assert sorted(counted) == sorted(rows)
    assert len({len(shard) for shard in shards}) == 1
    assert all(0 < len(piece.rows) <= size for shard in shards for piece in shard)
    assert all(set(piece.rows.tolist()) <= set(rows.tolist()) for shard in shards for piece in shard)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 99), st.integers(0, 70))
def test_steps_from_any_step_are_those_of_the_epochs(rows: int, size: int, seed: int, step: int) -> None:
    order = BatchSampler(rows, size, seed)
    epoch = step // order.steps_per_epoch
    batches = [*order.epoch(epoch), *order.epoch(epoch + 1)][step % order.steps_per_epoch :]
    assert all(np.array_equal(*pair) for pair in zip(order.from_step(step), batches, strict=False))
    assert sorted(np.concatenate(order.epoch(epoch))) == list(range(rows))
