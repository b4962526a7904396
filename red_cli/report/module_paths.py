"""The kind, stack and layer of an edited module, parsed from its path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from red_cli.edit.architectures import architecture_of

_NUMBER = re.compile(r"(?:^|(?<=\.))(\d+)(?=\.|$)")
_ANY_LAYER = "*"
# Position -> its words
_WORDS = {
    "ffn": "FFN",
    "attn": "attention",
    "qkv": "query-key-value",
    "ffn_norm": "FFN norm",
    "attn_norm": "attention norm",
}


@dataclass(frozen=True)
class ModulePath:
    """The parsed path of a module.

    Attributes:
        pattern: the path with `*` for the layer's number; modules of one kind share a pattern.
        position: its name in the table of architectures; None if it has none.
        layer: the layer's number within its stack; None if the path has no number.
    """

    pattern: str
    position: str | None
    layer: int | None

    @property
    def stack(self) -> str:
        """The path before the layer's number, such as `encoder.block`; empty without a number."""
        return "" if self.layer is None else ".".join(self.pattern.split(".")[: self._star])

    @property
    def tail(self) -> str:
        """The path after the layer's number; the full pattern without a number or if nothing follows it."""
        parts = self.pattern.split(".")
        return self.pattern if self.layer is None else ".".join(parts[self._star + 1 :]) or self.pattern

    @property
    def _star(self) -> int:
        return self.pattern.split(".").index(_ANY_LAYER)


def parse_module_path(path: str, model_type: str) -> ModulePath:
    """Parse a module path by the table of architectures, or else by the first number in it."""
    for position, end in architecture_of(model_type).positions.items():
        if match := re.fullmatch(rf"(?:.*\.)?{end}", path):
            return _module_path(path, match.span(1), position)
    match = _NUMBER.search(path)
    return ModulePath(path, None, None) if match is None else _module_path(path, match.span(1), None)


def kind_labels(paths: Sequence[ModulePath]) -> dict[str, str]:
    """Pattern -> a short, unique name.

    The name is the position, or else the end of the path. If several patterns share it, such as the attentions of an
    encoder-decoder, it is preceded by the parts of the path that differ.
    """
    unique = {path.pattern: path for path in paths}
    by_name: dict[str, list[str]] = {}
    for pattern, path in unique.items():
        by_name.setdefault(path.position or path.tail, []).append(pattern)
    found: dict[str, str] = {}
    for name, patterns in by_name.items():
        differing = _differing_words(patterns)
        for pattern in patterns:
            found[pattern] = f"{differing[pattern]} {name}".lstrip() if pattern in differing else pattern
    return found


def readable_kind(label: str) -> str:
    """A kind of module paths in words, such as `decoder attention` for `decoder attn`."""
    before, _, position = label.rpartition(" ")
    return f"{before} {_WORDS.get(position, position)}".lstrip()


def _module_path(path: str, span: tuple[int, int], position: str | None) -> ModulePath:
    """A module path, parsed into its pattern, position and layer; the span is that of the layer's number."""
    return ModulePath(path[: span[0]] + _ANY_LAYER + path[span[1] :], position, int(path[slice(*span)]))


def _differing_words(patterns: list[str]) -> dict[str, str]:
    """Pattern -> its parts that not all of `patterns` have; empty if they do not distinguish the patterns."""
    common = set.intersection(*(set(pattern.split(".")) for pattern in patterns))
    words = {
        pattern: " ".join(part for part in pattern.split(".") if part not in common and not part.isdigit())
        for pattern in patterns
    }
    return words if len(set(words.values())) == len(patterns) else {}
