"""Stored hidden states that leave the frozen prefix of a model, so that passes over known rows skip its layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from red_cli.edit.skipped_layers import Prefix, skipped_layers
from red_cli.tasks.base import Encoded


@dataclass(frozen=True)
class StoredRows:
    """The stored states of an encoded split: those of row i are `states[offsets[i]:offsets[i + 1]]`.

    Attributes:
        offsets: (rows + 1,), by the tokens that enter the first layers.
        states: (tokens, width) on the CPU.
    """

    encoded: Encoded
    offsets: NDArray[np.int64]
    states: Tensor

    def write(self, rows: Sequence[int], states: Tensor) -> None:
        """Store the states of rows, from a batch (rows, longest, width) that is padded on the right."""
        for row, found in zip(rows, states, strict=True):
            start, end = self.offsets[row], self.offsets[row + 1]
            self.states[start:end].copy_(found[: end - start])

    def read(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """The states of the rows of each sequence, one after the other, (sequences, longest, width); 0 at the end."""
        lengths = [sum(int(self.offsets[row + 1] - self.offsets[row]) for row in rows) for rows in sequences]
        found = torch.zeros(len(sequences), max(lengths), self.states.shape[-1], dtype=self.states.dtype)
        for place, rows in zip(found, sequences, strict=True):
            at = 0
            for row in rows:
                own = self.states[self.offsets[row] : self.offsets[row + 1]]
                place[at : at + len(own)] = own
                at += len(own)
        return found


@dataclass(frozen=True)
class PrefixStates:
    """The prefix of a model, and the rows whose states at its end are stored."""

    prefix: Prefix
    stored: list[StoredRows]
    device: torch.device

    @contextmanager
    def skipping(self, encoded: Encoded, sequences: Sequence[Sequence[int]]) -> Iterator[None]:
        """Inside the block a forward pass over these rows skips the prefix, if the split is stored.

        Args:
            sequences: the rows of each sequence of the batch; one, or several that are packed.
        """
        stored = next((each for each in self.stored if each.encoded is encoded), None)
        if stored is None:
            yield
            return
        with skipped_layers(self.prefix, stored.read(sequences).to(self.device)):
            yield
