"""Compute something for rows on all ranks: each takes its share, and one collective at the end gathers the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from red_cli.base_model.peak_memory import out_of_memory
from red_cli.distributed.process_group import Processes
from red_cli.distributed.shares import Messages, equal_share_of, share_of
from red_cli.errors import RunFailed

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGER = 0.001, 0.05, 1.2  # seconds while a rank waits for the others, and a factor
_GRACE = 30  # seconds in which the launcher ends the others of a rank that failed; on other machines it does not


class StopSignal(Protocol):
    """Whether the ranks were asked to stop their work on shared rows."""

    @property
    def requested(self) -> bool:
        """Whether this rank was asked."""

    def check(self) -> None:
        """Raise on all ranks if one of them was asked. All ranks call it."""


class NeverStop:
    """The signal to stop the work on shared rows that never comes."""

    requested = False

    def check(self) -> None: ...


NEVER_STOP = NeverStop()


@dataclass(frozen=True)
class SharedRows(Generic[_T]):
    """How rows are computed on all ranks.

    Attributes:
        compute: the results of some rows, in their order.
        summary: what rank 0 receives about a batch's results: what JSON can hold, except None.
        done: called on rank 0 with the summary of each batch of any rank; it shows progress and keeps results.
        lockstep: whether every batch is collective, as of a sharded base: all ranks then compute equally many batches,
            and some rows twice.
        not_even_one: the error if a single row does not fit into memory.
    """

    processes: Processes
    compute: Callable[[Sequence[int]], Sequence[_T]]
    summary: Callable[[dict[int, _T]], Any]
    done: Callable[[Any], None]
    lockstep: bool
    not_even_one: Callable[[], RunFailed]
    stop: StopSignal = NEVER_STOP

    def results(self, order: Sequence[int], size: int, unit: int = 1) -> dict[int, _T]:
        """Row -> result for all rows in `order`, on every rank.

        Args:
            order: the longest rows first, so that memory runs out at once or never; then batches are halved.
            size: rows of a batch; the same number on all ranks.
            unit: rows that stay together in a share; `size` keeps all batches of a single process.

        Raises:
            RunFailed: not even one row fits into memory, or another rank failed.
        """
        messages = Messages(self.processes)
        share = equal_share_of if self.lockstep else share_of
        try:
            found = self._own(share(order, self.processes, size, unit), size, messages)
        except BaseException:
            messages.fail()
            raise
        if self.processes.main:
            self._receive(messages)
            pauses = _pauses()
            while not messages.all_ended and not self.stop.requested:
                self._wait(next(pauses), messages)
                self._receive(messages)
            if self.stop.requested:
                messages.ask_to_stop()
            messages.finish()
        else:
            messages.end()
            pauses = _pauses()
            while not messages.finished:  # a collective that waits for the slowest rank would time out
                self._wait(next(pauses), messages)
        parts = self.processes.gather(found)
        self.stop.check()
        return {row: result for part in parts for row, result in part.items()}

    def _own(self, mine: list[int], size: int, messages: Messages) -> dict[int, _T]:
        """The results of this rank's share, as far as nobody asks it to stop."""
        found: dict[int, _T] = {}
        stopped = False
        while mine and not stopped:
            rows, failed, part = mine[:size], None, dict[int, _T]()
            try:
                part = dict(zip(rows, self.compute(rows), strict=True))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                failed = error
            out, stopped = self._agreed(failed is not None, self.stop.requested or messages.stop_asked)
            if out:
                if size == 1:
                    raise self.not_even_one() from failed
                size = -(-len(rows) // 2)
                continue
            found |= part
            mine = mine[len(rows) :]
            self._tell(part, messages)
        if stopped:
            messages.ask_to_stop()
        return found

    def _agreed(self, *flags: bool) -> tuple[bool, ...]:
        """The flags of this rank; in lockstep those of any rank."""
        return self.processes.any_rank(*flags) if self.lockstep else flags

    def _tell(self, part: dict[int, _T], messages: Messages) -> None:
        """Tell rank 0 of a batch."""
        if self.processes.main:
            self.done(self.summary(part))
            self._receive(messages)
        else:
            messages.send(self.summary(part))

    def _wait(self, seconds: float, messages: Messages) -> None:
        """Wait for the other ranks, or fail if one of them did."""
        time.sleep(seconds)
        if messages.failed:
            time.sleep(_GRACE)
            raise RunFailed("process-failed", "another rank failed", hint="Its own message says why.")

    def _receive(self, messages: Messages) -> None:
        for content in messages.receive():
            self.done(content)


def _pauses() -> Iterator[float]:
    """Seconds between looks at what the others do: short at first, since ranks with like shares end almost together."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * _LONGER, _LONGEST_PAUSE)
