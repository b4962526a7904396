"""Empty labels, names of classes that are nearly equal, and the number of rows of each class."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from red_cli.errors import one_line, shown
from red_cli.formatting import some_of

_HIDDEN = (-1, "-1")  # as in the Hub's GLUE


def is_blank(value: Any) -> bool:
    """Whether a class label is null, not a number, or text without a character that shows."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_hidden(value: Any, names: Sequence[str] | None) -> bool:
    """Whether a label is empty: blank, or -1 although no class has that name."""
    return is_blank(value) or ("-1" not in (names or ()) and value in _HIDDEN)


def nearly(name: str) -> str:
    """What a class name has in common with those that differ from it in spaces, case or the form of letters."""
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


def nearly_equal(names: Sequence[str]) -> str | None:
    """A line about classes whose names are nearly equal; None if there are none."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(nearly(name), []).append(shown(name))
    alike = [" and ".join(group) for group in groups.values() if len(group) > 1]
    if not alike:
        return None
    return f"classes whose names differ only in spaces or case: {some_of(alike)}"


def classes_in_words(counts: Mapping[str, int], most: int) -> str:
    """Classes in words: names and numbers of rows, in their order; of more than `most` the largest and the smallest."""

    def text(name: str) -> str:
        return f"{one_line(name) if name == name.strip() else shown(name)} {counts[name]:,}"

    if len(counts) <= most:
        return ", ".join(map(text, counts))
    ordered = sorted(counts, key=lambda name: -counts[name])
    return f"{', '.join(map(text, ordered[: most - 1]))}, … {text(ordered[-1])}; {len(counts):,} in all"


def counted(names: Sequence[str], ids: Sequence[int]) -> dict[str, int]:
    """Name of a class -> number of rows, in the order of class ids."""
    counts = Counter(ids)
    return {name: counts[index] for index, name in enumerate(names)}
