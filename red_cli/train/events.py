"""The events that a training run reports to its listener."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from red_cli.runs.events import Listener, NullListener

if TYPE_CHECKING:
    from red_cli.plan.plan import PlanSummary


@dataclass(frozen=True)
class Step:
    """A finished optimiser step; speeds are means since the last line of the log.

    Attributes:
        tokens_per_second: None if the task does not train on texts.
        runs: how many runs the steps are of; the loss is then the mean of their last ones, the rest that of one run.
    """

    step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    examples_per_second: float
    tokens_per_second: float | None = None
    runs: int = 1


@dataclass(frozen=True)
class Sample:
    """A prompt in an event, with the model's answer, and the right answer if it is known."""

    prompt: str
    answer: str
    label: str | None


@dataclass(frozen=True)
class Evaluation:
    """The score of a split during training.

    Attributes:
        training_loss: the mean loss of the steps since the last evaluation, or since the run was resumed; None if there
            are none.
        scores: metric -> value, for all metrics that were computed.
        names: metric -> the name to show, where it differs.
        samples: the answers to the sample prompts.
        run: the name of the run, if several train together.
    """

    step: int
    total_steps: int
    epoch: float
    metric: str
    value: float
    best: bool
    training_loss: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    run: str | None = None


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
