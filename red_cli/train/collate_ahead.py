"""Collate the micro-batches of the next step in a thread, while the current step runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from red_cli.plan.batches import MicroBatch, RowIndices
from red_cli.tasks.base import Batch


@dataclass(frozen=True)
class StepBatches:
    """This rank's share of an optimiser step, collated.

    Attributes:
        rows: the row indices of the global batch.
        micro_batches: each with its batch, on the host.
    """

    rows: RowIndices
    micro_batches: list[tuple[MicroBatch, Batch]]

    @property
    def weight(self) -> float:
        """The number of labelled items that count, or the sum of their class weights."""
        return sum(batch.weight for micro_batch, batch in self.micro_batches if not micro_batch.is_dummy)


@contextmanager
def collated_ahead(
    collate: Callable[[RowIndices], StepBatches], steps: Iterable[RowIndices]
) -> Iterator[Iterator[StepBatches]]:
    """The steps in their order, collated; while one is used, a thread collates the next.

    Collating draws no random numbers, so a run does not depend on the thread. What it raises is raised where its step
    is taken. The thread ends with the block.
    """
    with ThreadPoolExecutor(1, "collate") as pool:
        yield _one_ahead(steps, lambda rows: pool.submit(collate, rows))


def _one_ahead(steps: Iterable[RowIndices], submit: Callable[[RowIndices], Future[Any]]) -> Iterator[StepBatches]:
    """The results for the steps, of which one more is always submitted than was taken."""
    earlier: Future[StepBatches] | None = None
    for rows in steps:
        submitted = submit(rows)
        if earlier is not None:
            yield earlier.result()
        earlier = submitted
    if earlier is not None:
        yield earlier.result()
