"""Divide rows over the ranks, and tell rank 0 meanwhile what the others have done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import distributed

from red_cli.distributed.process_group import Processes

_T = TypeVar("_T")
_STOP, _FINISHED, _FAILED = "stop", "finished", "failed"


def share_of(items: Sequence[_T], processes: Processes, size: int = 1, unit: int = 1) -> list[_T]:
    """This rank's share of items that are sorted by cost: whole batches, as one process would cut them.

    In a round each rank takes a batch of `size` items. The next round begins with the rank that ended the last one, so
    that the ranks' costs are alike. If the last round is not complete, all ranks take smaller batches. The shares of
    all ranks together are the items.

    Args:
        size: items of a batch. The share is to be cut into batches of that size again.
        unit: items that stay together, 1 or `size`.
    """
    units = [items[start : start + unit] for start in range(0, len(items), unit)]
    in_round = size // unit * processes.count
    share: list[_T] = []
    for number, start in enumerate(range(0, len(units), in_round)):
        here = units[start : start + in_round]
        seat = processes.count - 1 - processes.index if number % 2 else processes.index
        first, end = (-(-len(here) * each // processes.count) for each in (seat, seat + 1))
        share += [item for each in here[first:end] for item in each]
    return share


def equal_share_of(items: Sequence[_T], processes: Processes, size: int = 1, unit: int = 1) -> list[_T]:
    """A share as of `share_of`, cut into batches of the same sizes on each rank; the last item fills the gaps."""
    missing = -len(items) % (unit * processes.count)
    return share_of([*items, *list(items[-1:]) * missing], processes, size, unit)


class Messages:
    """What ranks that work on shares send to rank 0, and a request to stop, from any rank to all. No rank waits.

    All ranks make one at the same place. With a single process, no message is sent.
    """

    def __init__(self, processes: Processes) -> None:
        self._index, self._sent = processes.index, 0
        self._read = dict.fromkeys(range(1, processes.count), 0)
        store = processes.store()
        number = 0 if store is None else store.add(f"red/{self._index}", 1)
        self._store = None if store is None else distributed.PrefixStore(f"red/messages/{number}", store)

    def send(self, content: Any) -> None:
        """Send what JSON can hold, except None, to rank 0."""
        if self._store is not None:
            self._store.set(f"{self._index}/{self._sent}", json.dumps(content))
            self._sent += 1

    def end(self) -> None:
        """Tell rank 0 that this rank sends no more."""
        self.send(None)

    def receive(self) -> list[Any]:
        """The messages that have arrived at rank 0 since the last call."""
        found: list[Any] = []
        for rank in list(self._read):
            while rank in self._read and (text := self._next(rank)) is not None:
                content = json.loads(text)
                if content is None:
                    del self._read[rank]
                else:
                    found.append(content)
        return found

    @property
    def all_ended(self) -> bool:
        """Whether rank 0 has received all messages of all ranks."""
        return not self._read

    def ask_to_stop(self) -> None:
        """Ask all ranks to stop."""
        self._set(_STOP)

    @property
    def stop_asked(self) -> bool:
        """Whether a rank asked all to stop."""
        return self._store is not None and self._store.check([_STOP])

    def finish(self) -> None:
        """Tell all ranks that rank 0 has received everything, so that all of them can gather."""
        self._set(_FINISHED)

    @property
    def finished(self) -> bool:
        """Whether rank 0 has received everything."""
        return self._store is None or self._store.check([_FINISHED])

    def fail(self) -> None:
        """Tell all ranks that this one failed."""
        with contextlib.suppress(RuntimeError):  # of a store that is gone; the failure itself is reported
            self._set(_FAILED)

    @property
    def failed(self) -> bool:
        """Whether a rank failed."""
        return self._store is not None and self._store.check([_FAILED])

    def _set(self, key: str) -> None:
        if self._store is not None:
            self._store.set(key, key)

    def _next(self, rank: int) -> bytes | None:
        """The next message of a rank; None if it has not arrived."""
        key = f"{rank}/{self._read[rank]}"
        if self._store is None or not self._store.check([key]):
            return None
        text: bytes = self._store.get(key)
        self._store.delete_key(key)
        self._read[rank] += 1
        return text
