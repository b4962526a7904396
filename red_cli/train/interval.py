"""The mean loss and the speed of an interval of optimiser steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Interval:
    """Mean loss and speed of the steps since a line of the log or an evaluation; undefined before the first step.

    Attributes:
        losses: their sum.
        tokens: of the rows, without padding.
    """

    losses: float = 0.0
    steps: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, loss: float, rows: int, tokens: int, seconds: float) -> None:
        """Add a step."""
        self.losses += loss
        self.steps += 1
        self.rows += rows
        self.tokens += tokens
        self.seconds += seconds

    @property
    def loss(self) -> float:
        """The mean loss of a step."""
        return self.losses / self.steps

    @property
    def examples_per_second(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds
