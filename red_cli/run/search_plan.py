"""Which learning rates a search tries, and for how many steps; planned before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from red_cli.methods.table import METHODS
from red_cli.recipe.schema import Recipe

_SHARE = 0.25  # of the run's own optimiser steps
_PER_DECADE = 2
_KEPT = 0.4  # of the rates, from each round to the next
_LEAST_STEPS = 4  # of one short run


@dataclass(frozen=True)
class Round:
    """So many of the rates that are left, each tried for so many steps."""

    rates: int
    steps: int


@dataclass(frozen=True)
class SearchPlan:
    """What a search will do: which rates, in which rounds."""

    rates: list[float]
    rounds: list[Round]

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return sum(part.rates * part.steps for part in self.rounds)


def plan_search(recipe: Recipe, total: int) -> SearchPlan:
    """The rates and rounds of a search before a run of `total` steps.

    Half of the steps go to all rates, the other half to the best of them. A run too short for that gets a coarser set
    of rates; one too short for any trial, the middle of the method's range untried.
    """
    low, high = METHODS[recipe.method].rates
    budget = math.floor(_SHARE * total)
    count = round(math.log10(high / low) * _PER_DECADE) + 1
    while count > 1:
        kept = max(2, round(count * _KEPT)) if count > 2 else 0
        first = budget // 2 // count if kept else budget // count
        if first >= _LEAST_STEPS:
            rounds = [Round(count, first)]
            if kept:
                rounds.append(Round(kept, (budget - count * first) // kept))
            return SearchPlan(_spaced(low, high, count), rounds)
        count = (count + 1) // 2 if count > 2 else 1
    return SearchPlan([_rounded(math.sqrt(low * high))], [])


def _spaced(low: float, high: float, count: int) -> list[float]:
    return [_rounded(low * (high / low) ** (index / (count - 1))) for index in range(count)]


def _rounded(rate: float) -> float:
    return float(f"{rate:.1e}")
