"""The sweep that a search for a learning rate consists of; planned before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from red_cli.methods.table import method_named
from red_cli.recipe.methods import MethodName

_SHARE = 0.25  # of the run's own optimiser steps
_LEAST_STEPS = 24  # of one sweep
_MOST_STEPS = 80
_MOST_SWEEPS = 3
_TIMES_OVER = 10  # about how often a sweep repeats each of its batches: few rows are fitted, and forgotten, soon
_BEYOND = 10.0  # factor by which a sweep exceeds the highest rate that may be chosen


@dataclass(frozen=True)
class SearchPlan:
    """What a search will do.

    Attributes:
        lowest, highest: the rates of a sweep.
        sweeps: how many, each over other rows.
        steps: of one sweep.
        most: the highest rate that may be chosen; the lowest is the sweep's.
        below_edge: by what factor the rate chosen lies below the one at which the loss breaks away.
        usual: the method's usual rate, which counts as much as a sweep; taken where the run is too short for one.
    """

    lowest: float
    highest: float
    sweeps: int
    steps: int
    most: float
    below_edge: float
    usual: float

    @property
    def total(self) -> int:
        """Optimiser steps in all."""
        return self.sweeps * self.steps

    @property
    def cycle(self) -> int:
        """Batches that a sweep goes over again and again; an average over so many steps is of the same rows."""
        return math.ceil(self.steps / _TIMES_OVER)

    def rate(self, step: int) -> float:
        """The learning rate of a step of a sweep, from 0: it rises by the same factor at each."""
        return self.lowest * (self.highest / self.lowest) ** (step / (self.steps - 1))


def plan_search(method: MethodName, modules: Sequence[str], total: int) -> SearchPlan:
    """The search before a run of `total` steps, at most a quarter of them; `modules` are the edited ones' paths."""
    rates = method_named(method).rates_for(modules)
    budget = math.floor(_SHARE * total)
    sweeps = max(1, min(_MOST_SWEEPS, budget // _MOST_STEPS)) if budget >= _LEAST_STEPS else 0
    steps = min(budget // sweeps, _MOST_STEPS) if sweeps else 0
    return SearchPlan(
        rates.lowest, rates.highest * _BEYOND, sweeps, steps, rates.highest, rates.below_edge, rates.usual
    )
