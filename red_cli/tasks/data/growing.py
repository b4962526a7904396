"""Flat arrays that grow by the rows of a split, without a copy of the whole at the end."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GROWTH = 1.1


class GrowingArray:
    """A flat array; the system moves its pages when it grows, where it can."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._array: NDArray[Any] = np.empty(0, dtype)
        self._length = 0

    def extend(self, values: NDArray[Any] | Sequence[int]) -> None:
        """Add values at the end."""
        end = self._length + len(values)
        if end > len(self._array):
            self._array.resize(max(end, int(_GROWTH * len(self._array))), refcheck=False)
        self._array[self._length : end] = values
        self._length = end

    def extend_rows(self, rows: Iterable[list[int]]) -> None:
        """Add the token ids of rows, one after another."""
        flat = array("i")  # takes lists several times as fast as numpy does
        for row in rows:
            flat.fromlist(row)
        self.extend(np.frombuffer(flat, dtype=np.intc))

    def finish(self) -> NDArray[Any]:
        """The array; nothing can be added any more."""
        found, self._array = self._array, np.empty(0, self._array.dtype)
        found.resize(self._length, refcheck=False)
        self._length = 0
        return found


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lengths of rows in a growing array (rows,) -> where each begins and the last ends, (rows + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
