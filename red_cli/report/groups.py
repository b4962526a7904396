"""Runs that differ in nothing but their seed, as one: mean and spread, never the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from red_cli.recipe.keys import role_of, training_keys
from red_cli.recipe.paper import Paper
from red_cli.recipe.paper_figure import paper_mismatch
from red_cli.recipe.roles import SAME_GROUP, Role
from red_cli.report.runs import FinishedRun, LeftOut
from red_cli.tasks.labels.metrics import display_value, headline_metrics, mean_and_spread

_TEST = "test"
_RATE = "train.learning_rate"


@dataclass(frozen=True)
class Group:
    """Runs of one recipe over seeds.

    Attributes:
        keys: the recipe's keys as dotted paths, without those that may differ within the group.
        runs: by seed.
        split: the one whose scores are reported, which every run of the group has.
        metric: of those scores.
    """

    keys: dict[str, Any]
    runs: list[FinishedRun]
    split: str
    metric: str

    @property
    def first(self) -> FinishedRun:
        return self.runs[0]

    @property
    def scores(self) -> dict[int, float]:
        """Seed -> score of the split, in percent (or 100 times a coefficient), if the metric is a share."""
        return {run.seed: display_value(self.metric, run.score(self.split, self.metric)) for run in self.runs}

    @property
    def mean(self) -> float:
        return mean_and_spread(list(self.scores.values()))[0]

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds; None for a single one."""
        return mean_and_spread(list(self.scores.values()))[1]

    @property
    def chose_best(self) -> bool:
        """Whether the split is the one that chose each run's best evaluation."""
        return self.first.chose_best(self.split)

    @property
    def examples(self) -> int:
        return int(self.first.metrics["splits"][self.split]["examples"])

    @property
    def by_metric(self) -> list[Group]:
        """The same runs under each metric that all of them are told by."""
        told = [headline_metrics(run.metric, run.metrics["splits"][self.split]) for run in self.runs]
        return [replace(self, metric=metric) for metric in told[0] if all(metric in names for names in told)]

    @property
    def paper(self) -> Paper | None:
        """The paper's figures, where all recipes of the group name the same, and train what these are of."""
        papers = [run.recipe.paper if paper_mismatch(run.recipe) is None else None for run in self.runs]
        return papers[0] if all(paper == papers[0] for paper in papers) else None


def group_runs(runs: Sequence[FinishedRun]) -> tuple[list[Group], list[LeftOut], list[str]]:
    """Groups in the order of their first runs, runs left out since their seed is there already, and notes.

    A group's split is "test" where all its runs have scored it, or what the paper's cut scores; else the validation
    split. Scores of different splits never meet in one mean.
    """
    by_keys: dict[tuple[tuple[str, str], ...], list[FinishedRun]] = {}
    left_out: list[LeftOut] = []
    for run in runs:
        keys = _keys(run)
        group = by_keys.setdefault(tuple((key, repr(value)) for key, value in keys.items()), [])
        if earlier := [other for other in group if other.seed == run.seed]:
            left_out.append(LeftOut(run.path, f"the same recipe and seed as {earlier[0].path}"))
        else:
            group.append(run)
    groups, notes = [], []
    for members in by_keys.values():
        members.sort(key=lambda run: run.seed)
        split, note = _common_split(members)
        groups.append(Group(_keys(members[0]), members, split, members[0].metric))
        notes += note
    return groups, left_out, notes


def _keys(run: FinishedRun) -> dict[str, Any]:
    """What decides a run, but for its seed; a learning rate that each seed's own search found counts as the search."""
    keys = training_keys(run.recipe)
    if run.metrics.get("learning_rate_search") is not None:
        keys[_RATE] = "auto"
    keys = {key: value for key, value in keys.items() if role_of(key) not in SAME_GROUP}
    own = f"{keys['method']}."
    counted = {key: value for key, value in keys.items() if role_of(key) is not Role.OPTIONS or key.startswith(own)}
    return {**counted, "metric": run.metric}


def _common_split(runs: list[FinishedRun]) -> tuple[str, list[str]]:
    """The split to report, and a note where only some of the runs have scored "test"."""
    result = runs[0].result_split
    if not runs[0].chose_best(result):  # the paper's cut keeps the scored rows apart
        return result, []
    tested = [run for run in runs if run.has(_TEST)]
    if len(tested) == len(runs):
        return _TEST, []
    if not tested:
        return result, []
    seeds = ", ".join(str(run.seed) for run in tested)
    missing = next(run for run in runs if run not in tested)
    return result, [f"{_TEST} is scored for seed {seeds} alone, so {result} is reported; red eval {missing.path}"]
