"""Groups of runs that differ only in their seed, with mean and standard deviation, never the best run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from red_cli.recipe.chosen_metrics import headline_metrics
from red_cli.recipe.keys_by_role import role_of, training_keys
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.paper import Paper
from red_cli.recipe.roles import SAME_GROUP, TRAINED, Role
from red_cli.recipe.score_format import displayed_score, mean_score
from red_cli.report.find_runs import FinishedRun, LeftOut

_TEST = "test"
_RATE = "train.learning_rate"


@dataclass(frozen=True)
class Group:
    """Runs of one recipe under several seeds.

    Attributes:
        keys: dotted recipe key -> value, without the keys that may differ within the group.
        runs: ordered by seed.
        split: the reported split, on which every run of the group is scored.
        metric: the reported metric.
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
        """Seed -> score; shares and coefficients are multiplied by 100."""
        return {run.seed: displayed_score(self.metric, run.score(self.split, self.metric)) for run in self.runs}

    @property
    def mean(self) -> float:
        return mean_score(list(self.scores.values()))[0]

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds; None for a single seed."""
        return mean_score(list(self.scores.values()))[1]

    @property
    def chose_best(self) -> bool:
        """Whether the reported split also selected each run's best evaluation."""
        return self.first.chose_best(self.split)

    @property
    def examples(self) -> int:
        return int(self.first.metrics["splits"][self.split]["examples"])

    @property
    def by_metric(self) -> list[Group]:
        """The same runs, once for each metric that all of them report."""
        by_run = [headline_metrics(run.metric, run.metrics["splits"][self.split]) for run in self.runs]
        common = [metric for metric in by_run[0] if all(metric in metrics for metrics in by_run)]
        return [replace(self, metric=metric) for metric in common]

    @property
    def untuned(self) -> Group | None:
        """The group before training; None if a run does not record that score on the same split."""
        runs = [_before_training(run, self.split, self.metric) for run in self.runs]
        known = [run for run in runs if run is not None]
        return replace(self, keys={**self.keys, "method": UNTUNED}, runs=known) if len(known) == len(runs) else None

    @property
    def paper(self) -> Paper | None:
        """The paper's figures, if all recipes of the group name the same ones and match the published setting."""
        if self.keys["method"] == UNTUNED:
            return None
        papers = [run.recipe.paper if run.recipe.paper_mismatch is None else None for run in self.runs]
        return papers[0] if all(paper == papers[0] for paper in papers) else None


def _before_training(run: FinishedRun, split: str, metric: str) -> FinishedRun | None:
    """A run of a group over seeds as it was before training; None if that score is not recorded."""
    untuned, rows = run.metrics.get("untuned") or {}, run.metrics["splits"][split]["examples"]
    if untuned.get("split") != split or untuned.get("examples", rows) != rows or metric not in untuned:
        return None
    parameters = {**run.metrics["parameters"], "edited": 0, "head": 0, "share": 0.0}
    splits = {split: {**untuned, "examples": rows}}
    return replace(run, metrics={**run.metrics, "splits": splits, "parameters": parameters})


def group_runs(runs: Sequence[FinishedRun]) -> tuple[list[Group], list[LeftOut], list[str]]:
    """Group runs that differ only in their seed. Scores of different splits are never averaged.

    A group reports its result split if the runs keep it separate from the selection split. Otherwise it reports "test"
    if all its runs are scored on it, else the validation split.

    Returns:
        The groups ordered by their first runs, the runs left out because their seed is repeated, and notes.
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
    """The recipe keys that define a group; a learning rate found by each seed's own search counts as "auto"."""
    keys = training_keys(run.recipe)
    if run.metrics.get("method") == UNTUNED:  # nothing that only training uses defines its group
        keys = {key: value for key, value in keys.items() if role_of(key) not in TRAINED} | {"method": UNTUNED}
    if run.metrics.get("learning_rate_search") is not None:
        keys[_RATE] = "auto"
    keys = {key: value for key, value in keys.items() if role_of(key) not in SAME_GROUP}
    own = f"{keys['method']}."
    counted = {key: value for key, value in keys.items() if role_of(key) is not Role.OPTIONS or key.startswith(own)}
    return {**counted, "metric": run.metric}


def _common_split(runs: list[FinishedRun]) -> tuple[str, list[str]]:
    """The split to report for a group of runs, and a note if only some of them are scored on "test"."""
    result = runs[0].result_split
    if not runs[0].chose_best(result):  # the paper's protocol scores rows that did not select
        return result, []
    tested = [run for run in runs if run.has(_TEST)]
    if len(tested) == len(runs):
        return _TEST, []
    if not tested:
        return result, []
    seeds = ", ".join(str(run.seed) for run in tested)
    missing = next(run for run in runs if run not in tested)
    return result, [f"{_TEST} is scored for seed {seeds} alone, so {result} is reported; red eval {missing.path}"]
