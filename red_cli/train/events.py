"""What a training run reports while it works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from red_cli.plan.plan import PlanSummary
from red_cli.runs.events import Listener, NullListener


@dataclass(frozen=True)
class Step:
    """An optimiser step is done."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    examples_per_second: float


@dataclass(frozen=True)
class Evaluation:
    """A split is scored."""

    step: int
    epoch: float
    metric: str
    value: float
    best: bool


class TrainingListener(Listener, Protocol):
    """Receives what happens in a training run as well."""

    def planned(self, plan: PlanSummary, folder: str) -> None:
        """The run is about to start."""

    def searching(self, done: int, total: int, rate: float) -> None:
        """A search for the learning rate is at `rate`; so many of its steps are done."""

    def searched(self, rate: float, divergence_rates: Sequence[float | None]) -> None:
        """A learning rate is found; `edges`: where the loss diverged in each sweep, None where it did not."""

    def stepped(self, step: Step) -> None:
        """An optimiser step is done."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """A split is scored."""


class NullTrainingListener(NullListener):
    """A listener that shows nothing of a training run."""

    def planned(self, plan: PlanSummary, folder: str) -> None: ...

    def searching(self, done: int, total: int, rate: float) -> None: ...

    def searched(self, rate: float, divergence_rates: Sequence[float | None]) -> None: ...

    def stepped(self, step: Step) -> None: ...

    def evaluated(self, evaluation: Evaluation) -> None: ...
