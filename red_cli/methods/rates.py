"""The learning rates of a method; what a search goes by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Learning rates of a method. Those of the methods here were set on GLUE tasks and one base (docs/results.md).

    Attributes:
        lowest, highest: that a search may choose.
        usual: a good one where nothing is known of the base and the data.
        below_edge: by what factor a good rate lies below the one at which a short run becomes unstable.
    """

    lowest: float
    highest: float
    usual: float
    below_edge: float = 2.5


def most_in_a_layer(modules: Sequence[str]) -> int:
    """The most modules in one layer, a layer being the part of a path up to its first number."""
    layers = [match[0] if (match := re.match(r".*?\.\d+(?=\.)", path)) else path for path in modules]
    return max(Counter(layers).values(), default=0)
