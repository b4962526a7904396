"""Which learning rates suit a method; what a search goes by."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from red_cli.recipe.schema import MethodName


@dataclass(frozen=True)
class Rates:
    """Learning rates of a method.

    Attributes:
        lowest, highest: that a search may choose.
        usual: a good one where nothing is known of the base and the data.
        below_edge: by what factor a good rate lies below the one at which a short run becomes unstable.
    """

    lowest: float
    highest: float
    usual: float
    below_edge: float = 2.5


# Set on GLUE tasks and one base, those of docs/results.md. Edits in the same layer add up, and their noise with them.
_RED = Rates(1e-3, 1e-1, usual=2e-2, below_edge=3.0)
_RED_OF_MANY = Rates(1e-3, 1e-1, usual=1e-2, below_edge=4.5)
_OTHERS: dict[MethodName, Rates] = {
    "full": Rates(1e-5, 1e-3, usual=1e-4, below_edge=8.0),
    "head": Rates(1e-3, 1e-1, usual=1e-2),
    "bitfit": Rates(3e-4, 3e-2, usual=3e-3),
    "lora": Rates(1e-4, 1e-2, usual=2e-3, below_edge=5.0),
    "ia3": Rates(1e-3, 1e-1, usual=1e-2),
}


def rates_of(method: MethodName, modules: Sequence[str]) -> Rates:
    """The rates of a method; RED has those of one edit in a layer, or of several.

    Args:
        modules: paths of the edited modules in the model. They count, however the recipe names them.
    """
    if method != "red":
        return _OTHERS[method]
    return _RED if _most_in_a_layer(modules) <= 1 else _RED_OF_MANY


def _most_in_a_layer(modules: Sequence[str]) -> int:
    """The most edits in one layer, a layer being the part of a path up to its first number."""
    layers = [match[0] if (match := re.match(r".*?\.\d+(?=\.)", path)) else path for path in modules]
    return max(Counter(layers).values(), default=0)
