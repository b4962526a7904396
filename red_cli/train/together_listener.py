"""The events of runs that train together, for one listener: lines carry the run's name, steps are those of all."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from red_cli.train.events import Evaluation, Step, TrainingListener

if TYPE_CHECKING:
    from red_cli.plan.plan import PlanSummary


class ListenerOfAll:
    """Joins the events of several runs: their steps become one progress, with the mean of their last losses."""

    def __init__(self, listener: TrainingListener) -> None:
        self.listener = listener
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._loss: dict[str, float] = {}

    def listener_of(self, name: str) -> TrainingListener:
        """The listener of one run."""
        return _ListenerOfOne(name, self)

    def begin(self, name: str, done: int, total: int) -> None:
        """A run is opened after `done` of `total` steps."""
        self._done[name], self._total[name] = done, total

    def stepped(self, name: str, step: Step) -> None:
        """A run took a step."""
        self._done[name], self._loss[name] = step.step, step.loss
        self.listener.stepped(
            replace(
                step,
                step=sum(self._done.values()),
                total_steps=sum(self._total.values()),
                loss=statistics.fmean(self._loss.values()),
                runs=len(self._total),
            )
        )

    def ended(self, name: str) -> None:
        """A run finished, failed or stopped: no further steps of it are expected."""
        self._total[name] = self._done[name]
        self._loss.pop(name, None)

    def failed(self, name: str, why: str) -> None:
        """A run failed; the others continue."""
        self.listener.note(f"{name} failed: {why}")


class _ListenerOfOne:
    """The listener of one run among several."""

    def __init__(self, name: str, group: ListenerOfAll) -> None:
        self._name, self._group, self._listener = name, group, group.listener

    def note(self, text: str) -> None:
        self._listener.note(f"{self._name}: {text}")

    def status(self, what: str) -> None:
        self._listener.status(what)

    def evaluating(self, done: int, total: int) -> None:
        self._listener.evaluating(done, total)

    def predicting(self, done: int, total: int) -> None:
        self._listener.predicting(done, total)

    def decoding(self, done: int, total: int, tokens: int) -> None:
        self._listener.decoding(done, total, tokens)

    def writing(self, done: int, total: int) -> None:
        self._listener.writing(done, total)

    def planned(self, plan: PlanSummary, folder: str) -> None:
        self._listener.planned(plan, folder)

    def searching(self, done: int, total: int, rate: float) -> None:
        self._listener.searching(done, total, rate)

    def searched(self, rate: float, divergence_rates: Sequence[float | None]) -> None:
        self._listener.searched(rate, divergence_rates)

    def stepped(self, step: Step) -> None:
        self._group.stepped(self._name, step)

    def evaluated(self, evaluation: Evaluation) -> None:
        self._listener.evaluated(replace(evaluation, run=self._name))
