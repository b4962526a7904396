"""Every row is computed on some rank, and all ranks have all results after one collective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from red_cli.distributed.process_group import Processes
from red_cli.distributed.shares import equal_share_of, share_of
from red_cli.errors import RunFailed
from red_cli.inference.shared_rows import SharedRows
from tests.failures import fails
from tests.inference.ranks import Rank, on_ranks

COUNTS = st.integers(1, 4)


class Stop:
    """Asked on one rank, after some batches."""

    def __init__(self, rank: Rank) -> None:
        self.rank, self.requested = rank, False

    def check(self) -> None:
        if any(self.rank.any_rank(self.requested)):
            raise InterruptedError


def failure() -> RunFailed:
    return RunFailed("out-of-memory", "not even one")


def shared(rank: Rank, shown: list[Any], fitting: int = 99, **changes: Any) -> SharedRows[int]:
    """Squares of numbers, of at most `fitting` at once."""

    def compute(rows: Sequence[int]) -> list[int]:
        if len(rows) > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [row * row for row in rows]

    options = {"lockstep": False, "not_even_one": failure, **changes}
    return SharedRows(rank, compute, summary=lambda part: sorted(part), done=shown.append, **options)


@given(st.lists(st.integers(1, 64), max_size=60), COUNTS, st.integers(1, 5), st.booleans())
def test_shares(lengths: list[int], count: int, size: int, together: bool) -> None:
    """Every row is dealt once, and no rank computes much more padding, or more batches, than another."""
    unit = size if together else 1
    items = sorted(enumerate(lengths), key=lambda item: -item[1])
    whole = cut(items, size)
    ranks = [Processes(index, count) for index in range(count)]
    shares = [cut(share_of(items, rank, size, unit), size) for rank in ranks]
    assert sorted(item for share in shares for batch in share for item in batch) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(batch in whole for share in shares for batch in (share if together else share[:-1]))
    costs = [sum(map(padded, share)) for share in shares]
    assert max(costs) - min(costs) <= max(map(padded, whole), default=0)
    assert max(costs) <= max(sum(map(padded, cut(items[rank.index :: count], size))) for rank in ranks) or together
    equal = [cut(equal_share_of(items, rank, size, unit), size) for rank in ranks]
    assert len({tuple(map(len, share)) for share in equal}) == 1
    assert {item for share in equal for batch in share for item in batch} == set(items)


def test_two_ranks_halve_the_work_of_one() -> None:
    """Batches of a falling cost: each rank has the longest of one round and the shortest of the next."""
    items = [(row, 256 - row) for row in range(256)]
    shares = [cut(share_of(items, Processes(index, 2), 64), 64) for index in range(2)]
    assert [sum(map(padded, share)) * 2 for share in shares] == [sum(map(padded, cut(items, 64)))] * 2


def cut(items: list[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
    """Batches of rows with their lengths."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def padded(batch: list[tuple[int, int]]) -> int:
    """The tokens that a pass over a batch computes."""
    return len(batch) * max(length for _, length in batch)


@given(st.integers(0, 30), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.booleans())
def test_all_ranks_have_all_results(
    total: int, count: int, size: int, fitting: int, lockstep: bool, together: bool
) -> None:
    shown: list[list[int]] = []
    order = list(range(total))[::-1]

    def work(rank: Rank) -> dict[int, int]:
        rows = shared(rank, shown if rank.main else [], fitting, lockstep=lockstep)
        return rows.results(order, size, unit=size if together else 1)

    results, meeting = on_ranks(count, work)
    assert all(result == {row: row * row for row in order} for result in results)
    assert {row for rows in shown for row in rows} == set(order)
    if not lockstep:
        assert meeting.collectives == (count > 1)
        assert sum(map(len, shown)) == total  # none twice


def test_a_row_that_does_not_fit() -> None:
    with fails("out-of-memory", "not even one", kind=RunFailed):
        shared(Rank(), [], fitting=0).results([0, 1, 2], 2)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_ends_the_others(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them waits for ever, although no collective of theirs would time out."""
    monkeypatch.setattr("red_cli.inference.shared_rows._GRACE", 0)

    def work(rank: Rank) -> str:
        rows = shared(rank, [], fitting=0 if rank.index == failing else 99)
        try:
            rows.results(list(range(4)), 1)
        except RunFailed as error:
            return error.code
        return "finished"

    results, _ = on_ranks(2, work)
    assert results[failing] == "out-of-memory"
    assert results[1 - failing] == "process-failed"


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("asked", [0, 1])
def test_a_request_to_stop_reaches_all_ranks(asked: int, lockstep: bool) -> None:
    """The other rank, with rows left, stops too, and both raise."""
    computed: list[int] = []

    def work(rank: Rank) -> str:
        stop = Stop(rank)
        rows = shared(rank, [], lockstep=lockstep, stop=stop)
        compute = rows.compute

        def counted(part: Sequence[int]) -> Sequence[int]:
            computed.extend(part)
            stop.requested = rank.index == asked
            return compute(part)

        object.__setattr__(rows, "compute", counted)
        try:
            rows.results(list(range(2000)), 1)
        except InterruptedError:
            return "stopped"
        return "finished"

    results, _ = on_ranks(2, work)
    assert results == ["stopped", "stopped"]
    assert len(computed) < 2000
