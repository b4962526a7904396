"""What a run tells while it works; the terminal shows it, a program may ignore it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from red_cli.plan.plan import Plan


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


class Listener(Protocol):
    """Is told what happens in a run."""

    def note(self, text: str) -> None:
        """One line that the user should see."""

    def working(self, what: str) -> None:
        """Something that may take a while has begun."""

    def planned(self, plan: Plan, folder: str) -> None:
        """The run is about to start."""

    def searching(self, done: int, total: int, rate: float) -> None:
        """A search for the learning rate is at `rate`; so many of its steps are done."""

    def searched(self, rate: float, edges: Sequence[float | None]) -> None:
        """A learning rate is found; `edges`: where the loss broke away in each sweep (None: nowhere)."""

    def stepped(self, step: Step) -> None: ...

    def evaluating(self, done: int, total: int) -> None:
        """So many rows of a split are predicted."""

    def decoding(self, done: int, total: int) -> None:
        """Texts are generated for so many prompts of a split."""

    def evaluated(self, evaluation: Evaluation) -> None: ...

    def writing(self, done: int, total: int) -> None:
        """So many bytes of a file that takes a while are written."""


class Silent:
    """A listener that shows nothing."""

    def note(self, text: str) -> None: ...

    def working(self, what: str) -> None: ...

    def planned(self, plan: Plan, folder: str) -> None: ...

    def searching(self, done: int, total: int, rate: float) -> None: ...

    def searched(self, rate: float, edges: Sequence[float | None]) -> None: ...

    def stepped(self, step: Step) -> None: ...

    def evaluating(self, done: int, total: int) -> None: ...

    def decoding(self, done: int, total: int) -> None: ...

    def evaluated(self, evaluation: Evaluation) -> None: ...

    def writing(self, done: int, total: int) -> None: ...
