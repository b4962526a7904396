"""Plan a learning-rate search before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from red_cli.methods.method import method_named
from red_cli.recipe.methods import MethodName
from red_cli.recipe.sections import DEEPSPEED

_SHARE = 0.25  # of the optimiser steps of the run
_LEAST_STEPS = 24  # of a sweep
_MOST_STEPS = 80
_MOST_SWEEPS = 3
_TIMES_OVER = 10  # about how often a sweep repeats each of its batches
_BEYOND = 10.0  # a sweep ends at this factor above the highest rate that may be chosen


@dataclass(frozen=True)
class SearchPlan:
    """The plan of a learning-rate search.

    Attributes:
        lowest, highest: the first and the last learning rate of a sweep.
        sweeps: the number of sweeps, each over other rows.
        steps: optimiser steps per sweep.
        most: the highest rate that may be chosen; the lowest is `lowest`.
        below_edge: the factor between the rate at which the loss diverges and the chosen rate.
        usual: the method's usual rate. It counts as much as a sweep, and is used where there is none.
        why_none: why there is no sweep; None if there is one.
    """

    lowest: float
    highest: float
    sweeps: int
    steps: int
    most: float
    below_edge: float
    usual: float
    why_none: str | None = None

    @property
    def total(self) -> int:
        """Optimiser steps of all sweeps."""
        return self.sweeps * self.steps

    @property
    def cycle(self) -> int:
        """The number of batches that a sweep repeats; an average over as many steps covers the same rows."""
        return math.ceil(self.steps / _TIMES_OVER)

    def rate(self, step: int) -> float:
        """The learning rate of a sweep's `step` (from 0); it rises by a constant factor per step."""
        return self.lowest * (self.highest / self.lowest) ** (step / (self.steps - 1))


def plan_search(method: MethodName, modules: Sequence[str], total: int, strategy: str = "single") -> SearchPlan:
    """Plan the search before a run of `total` steps; it takes at most a quarter as many.

    DeepSpeed flattens the parameters, whose values a sweep restores, so its strategies have no search.

    Args:
        modules: the paths of the edited modules.
    """
    rates = method_named(method).rates_for(modules)
    budget = math.floor(_SHARE * total)
    why_none = "the run is too short for a search" if budget < _LEAST_STEPS else None
    why_none = f"{strategy} has no search" if strategy in DEEPSPEED else why_none
    sweeps = max(1, min(_MOST_SWEEPS, budget // _MOST_STEPS)) if why_none is None else 0
    steps = min(budget // sweeps, _MOST_STEPS) if sweeps else 0
    return SearchPlan(
        rates.lowest, rates.highest * _BEYOND, sweeps, steps, rates.highest, rates.below_edge, rates.usual, why_none
    )
