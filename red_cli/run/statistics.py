"""Mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); None where there is but one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
