"""Ranks as threads of one process, for what would otherwise start several processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from torch import Tensor, distributed

from red_cli.distributed.process_group import Processes


class Meeting:
    """Where the ranks meet: a store, and the values that they bring to a collective."""

    def __init__(self, count: int) -> None:
        self.shared = distributed.HashStore()
        self.shared.set_timeout(timedelta(seconds=20))
        self.barrier = threading.Barrier(count, timeout=20)
        self.brought: list[Any] = [None] * count
        self.collectives = 0

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.brought[rank] = value
        self.barrier.wait()
        found = list(self.brought)
        if rank == 0:
            self.collectives += 1
        self.barrier.wait()
        return found


@dataclass(frozen=True)
class Rank(Processes):
    """A rank that is a thread."""

    meeting: Meeting = field(default_factory=lambda: Meeting(1))

    def store(self) -> distributed.Store | None:
        return None if self.count == 1 else self.meeting.shared

    def gather(self, value: Any) -> list[Any]:
        return self.meeting.gather(self.index, value) if self.count > 1 else [value]

    def all_reduce_sum(self, number: float) -> float:
        return sum(self.gather(number))

    def all_reduce_(self, tensors: Sequence[Tensor]) -> None:
        """As one message; the order of the sums is that of the ranks."""
        for tensor, *brought in zip(tensors, *self.gather([each.clone() for each in tensors]), strict=True):
            tensor.copy_(sum(brought))

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        return tuple(any(column) for column in zip(*self.gather(flags), strict=True))


def on_ranks(count: int, work: Callable[[Rank], Any]) -> tuple[list[Any], Meeting]:
    """What each of `count` ranks returns, in their order, and where they met."""
    meeting = Meeting(count)
    ranks = [Rank(index, count, meeting=meeting) for index in range(count)]
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work, rank) for rank in ranks]
        return [future.result() for future in futures], meeting
