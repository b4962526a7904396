"""The events that a training run reports to its listener."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from red_cli.runs.events import Listener, NullListener

if TYPE_CHECKING:
    from red_cli.plan.plan import PlanSummary


@dataclass(frozen=True)
class Step:
    """A finished optimiser step."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    examples_per_second: float


@dataclass(frozen=True)
class Evaluation:
    """The score of a split during training."""

    step: int
    epoch: float
    metric: str
    value: float
    best: bool


class TrainingListener(Listener, Protocol):
    """A listener that also receives the events of a training run."""

    def planned(self, plan: PlanSummary, folder: str) -> None:
        """The run is planned and about to start in `folder`."""

    def searching(self, done: int, total: int, rate: float) -> None:
        """`done` of `total` steps of a learning-rate search are done; the next one uses `rate`."""

    def searched(self, rate: float, divergence_rates: Sequence[float | None]) -> None:
        """A search found `rate`; `divergence_rates`: where the loss of each sweep diverged, or None."""

    def stepped(self, step: Step) -> None:
        """An optimiser step finished."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """A split was scored."""


class NullTrainingListener(NullListener):
    """A training listener that shows nothing."""

    def planned(self, plan: PlanSummary, folder: str) -> None: ...

    def searching(self, done: int, total: int, rate: float) -> None: ...

    def searched(self, rate: float, divergence_rates: Sequence[float | None]) -> None: ...

    def stepped(self, step: Step) -> None: ...

    def evaluated(self, evaluation: Evaluation) -> None: ...
