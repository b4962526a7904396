"""Paired differences between two rows of a comparison: seed by seed, with the mean's confidence interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from red_cli.recipe.metrics import display_value, metric_spec

_CONFIDENCE = 0.95
_FEWEST = 3  # seeds of an interval: of two, both differences say more


def differences(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The differences of each row from the first one, by metric, over the seeds that both have.

    Returns:
        For each pair and metric: "row" and "minus" (names of the rows), "metric", "seeds" (seed -> difference), "mean",
        and "interval", that of the mean by Student's t; None for fewer than three seeds. Units are those of the scores.
    """
    found = []
    for row in rows[1:]:
        for metric in metrics:
            ours, theirs = row["scores"][metric]["seeds"], rows[0]["scores"][metric]["seeds"]
            by_seed = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
            if by_seed:
                values = list(by_seed.values())
                found.append(
                    {
                        "row": row["name"],
                        "minus": rows[0]["name"],
                        "metric": metric,
                        "seeds": by_seed,
                        "mean": statistics.fmean(values),
                        "interval": interval(values),
                    }
                )
    return found


def interval(values: Sequence[float]) -> list[float] | None:
    """The 95% confidence interval of the mean difference by Student's t; None for fewer than three values."""
    if len(values) < _FEWEST:
        return None
    from scipy.special import stdtrit

    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, (1 + _CONFIDENCE) / 2)) * error
    return [mean - reach, mean + reach]


def difference_rows(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The differences between rows of a comparison, as text, heading first; empty if no pair has two seeds."""
    rows = []
    for pair in found:
        values = list(pair["seeds"].values())
        if len(values) > 1:
            both = len(values) < _FEWEST
            shown = " / ".join(_text(pair["metric"], value) for value in (values if both else [pair["mean"]]))
            ends = pair["interval"] and ", ".join(_text(pair["metric"], end) for end in pair["interval"])
            name = f"{pair['row']} - {pair['minus']}"
            rows.append([name, pair["metric"], shown, f"[{ends}]" if ends else "", str(len(values))])
    return [["difference by seed", "metric", "mean", "95% interval", "seeds"], *rows] if rows else []


def _text(metric: str, difference: float) -> str:
    """A difference with its sign, in the format of the metric."""
    return f"{display_value(metric, difference):+{metric_spec(metric).format or '.2f'}}"
