"""Differences between the scores of two rows of a comparison or report, paired by seed, with the mean's interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from red_cli.recipe.metrics import metric_spec

_CONFIDENCE = 0.95
FEWEST_SEEDS = 3  # seeds of an interval: of two, both differences say more


@dataclass(frozen=True)
class PairedDifferences:
    """The paired differences between two rows' scores, in the unit of the scores.

    Attributes:
        by_seed: seed -> difference, at least one.
    """

    by_seed: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed.values())

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% confidence interval of the mean by Student's t; None for fewer than three seeds."""
        values = list(self.by_seed.values())
        if len(values) < FEWEST_SEEDS:
            return None
        from scipy.special import stdtrit

        error = statistics.stdev(values) / math.sqrt(len(values))
        reach = float(stdtrit(len(values) - 1, (1 + _CONFIDENCE) / 2)) * error
        return self.mean - reach, self.mean + reach


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> PairedDifferences | None:
    """The paired differences `ours` - `theirs` over the seeds that both have; None if there is no such seed.

    Args:
        theirs: the scores of the reference.
    """
    by_seed = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    return PairedDifferences(by_seed) if by_seed else None


def signed_difference(metric: str, difference: float) -> str:
    """A difference with its sign, in the format of the metric; both are in the unit of display."""
    return f"{difference:+{metric_spec(metric).format or '.2f'}}".replace("-", "−")


def differences(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The differences of each row from the first one, the reference, by metric.

    Returns:
        For each pair and metric: "row" and "minus" (names of the rows), "metric", "seeds" (seed -> difference), "mean",
        and "interval", that of the mean; None for fewer than three seeds. Units are those of the scores.
    """
    found = []
    for row in rows[1:]:
        for metric in metrics:
            pair = paired(row["scores"][metric]["seeds"], rows[0]["scores"][metric]["seeds"])
            if pair is not None:
                found.append(
                    {
                        "row": row["name"],
                        "minus": rows[0]["name"],
                        "metric": metric,
                        "seeds": pair.by_seed,
                        "mean": pair.mean,
                        "interval": None if pair.interval is None else list(pair.interval),
                    }
                )
    return found
