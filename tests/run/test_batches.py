"""The order of rows and the cut into micro-batches."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from red_cli.run.batches import Order, cut, cut_by_length


def test_every_row_once_an_epoch_and_other_batches_each_time() -> None:
    order = Order(rows=103, batch_size=10, seed=3)
    assert order.steps_per_epoch == 11
    epochs = [order.epoch(number) for number in (0, 1)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [10] * 10 + [3]
        assert sorted(np.concatenate(batches)) == list(range(103))
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))
    again = Order(rows=103, batch_size=10, seed=3).epoch(1)
    assert np.array_equal(np.concatenate(epochs[1]), np.concatenate(again))


def test_going_on_at_any_step_gives_the_same_batches() -> None:
    order = Order(rows=25, batch_size=4, seed=0)
    whole = list(islice(order.from_step(0), 20))
    for step in range(20):
        rest = list(islice(order.from_step(step), 20 - step))
        assert all(np.array_equal(*pair) for pair in zip(rest, whole[step:], strict=True))


@pytest.mark.parametrize("size", [1, 5, 32])
@pytest.mark.parametrize("cost", [0, 64, 10**6])
def test_cut_by_length_keeps_the_rows_and_never_costs_more(size: int, cost: int) -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(3, 70, 200)
    rows = generator.permutation(200)[:32]

    def total(pieces: list) -> int:
        return sum(len(piece) * lengths[piece].max() + cost for piece in pieces)

    pieces = cut_by_length(rows, lengths, size, cost)
    assert sorted(np.concatenate(pieces)) == sorted(rows)
    assert max(len(piece) for piece in pieces) <= size
    assert total(pieces) <= total(cut(rows, size))
    if cost == 10**6:
        assert len(pieces) == len(cut(rows, size))
    if size == 32 and cost == 64:
        assert total(pieces) < 0.75 * total(cut(rows, size))
