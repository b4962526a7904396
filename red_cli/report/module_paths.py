"""Where an edited module stands in its model: its kind, its stack and its layer, from its path alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from red_cli.edit.architectures import ARCHITECTURES

_NUMBER = re.compile(r"(?:^|(?<=\.))(\d+)(?=\.|$)")
_ANY_LAYER = "*"


@dataclass(frozen=True)
class Place:
    """Where a module stands.

    Attributes:
        pattern: its path with `*` for the layer's number; modules of one pattern are of one kind.
        position: what the architecture's table calls it, where it does.
        layer: the layer's number within its stack; None where the path has no number.
    """

    pattern: str
    position: str | None
    layer: int | None

    @property
    def stack(self) -> str:
        """The path before the layer's number, such as `encoder.block`; empty where there is none."""
        return "" if self.layer is None else ".".join(self.pattern.split(".")[: self._star])

    @property
    def tail(self) -> str:
        """The path after the layer's number; the whole path where there is none, or nothing comes after it."""
        parts = self.pattern.split(".")
        return self.pattern if self.layer is None else ".".join(parts[self._star + 1 :]) or self.pattern

    @property
    def _star(self) -> int:
        return self.pattern.split(".").index(_ANY_LAYER)


def place_of(path: str, model_type: str) -> Place:
    """The place of a module: by the architecture's table, else by the first number in its path."""
    architecture = ARCHITECTURES.get(model_type)
    for position, end in architecture.positions.items() if architecture else ():
        if match := re.fullmatch(rf"(?:.*\.)?{end}", path):
            return _place(path, match.span(1), position)
    match = _NUMBER.search(path)
    return Place(path, None, None) if match is None else _place(path, match.span(1), None)


def labels(places: Sequence[Place]) -> dict[str, str]:
    """A short name for each pattern, all different.

    The position (else the path's end) as far as it tells the kinds apart; where it does not, as with the attentions of
    an encoder-decoder, the parts of the path that differ come before it.
    """
    unique = {place.pattern: place for place in places}
    by_name: dict[str, list[str]] = {}
    for pattern, place in unique.items():
        by_name.setdefault(place.position or place.tail, []).append(pattern)
    found: dict[str, str] = {}
    for name, patterns in by_name.items():
        differing = _differing_words(patterns)
        for pattern in patterns:
            found[pattern] = f"{differing[pattern]} {name}".lstrip() if pattern in differing else pattern
    return found


def _place(path: str, span: tuple[int, int], position: str | None) -> Place:
    return Place(path[: span[0]] + _ANY_LAYER + path[span[1] :], position, int(path[slice(*span)]))


def _differing_words(patterns: list[str]) -> dict[str, str]:
    """The words of each path that not all of `patterns` have; empty where words do not tell them apart."""
    common = set.intersection(*(set(pattern.split(".")) for pattern in patterns))
    words = {
        pattern: " ".join(part for part in pattern.split(".") if part not in common and not part.isdigit())
        for pattern in patterns
    }
    return words if len(set(words.values())) == len(patterns) else {}
