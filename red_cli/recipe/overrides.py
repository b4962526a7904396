"""Parse `KEY=VALUE` overrides of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from red_cli.errors import one_line
from red_cli.recipe.aliases import alias_of
from red_cli.recipe.schema import key_at
from red_cli.recipe.yaml_file import parse_value

_DEEPEST = 10  # parts of a key


@dataclass(frozen=True)
class Override:
    """One override.

    Attributes:
        text: the argument as given.
        path: the key before the equals sign.
        value: the parsed YAML value.
    """

    text: str
    path: tuple[str, ...]
    value: Any

    @property
    def nested(self) -> dict[str, Any]:
        """The override as a nested mapping."""
        nested = self.value
        for part in reversed(self.path):
            nested = {part: nested}
        return nested

    @property
    def keys(self) -> list[str]:
        """The dotted paths that it sets: train.seed for both `train={seed: 1}` and `train.seed=1`."""
        return [".".join(path) for path in _leaves(self.value, self.path)]


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the key path of every value that an override sets."""
    if not isinstance(value, dict):
        yield path
        return
    for key, inner in value.items():
        yield from _leaves(inner, (*path, key))


class InvalidOverride(ValueError):
    """The text is not an override. `key` is the key that it sets, or "" if that is unclear."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def parse_override(text: str) -> Override:
    """Parse `KEY=VALUE`, split at the first equals sign.

    Raises:
        InvalidOverride: the key is missing or malformed, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    path = tuple(key.split("."))
    if not equals or not all(path) or not key.isprintable() or len(path) > _DEEPEST:
        raise InvalidOverride("", _what_is_expected(text))
    try:
        return Override(text, path, parse_value(value))
    except ValueError as error:
        raise InvalidOverride(key, f"the value cannot be read: {error}") from None


def _what_is_expected(text: str) -> str:
    """The message for a text that is no override: how to write the key that it names, if it names one."""
    name = re.split("[:= ]", text.lstrip("-"), maxsplit=1)[0]
    alias = alias_of(name)
    key = alias.keys[0].partition("=")[0] if alias and alias.keys else name
    if key_at(key) is None or not text.isprintable():
        return "expected KEY=VALUE without spaces, such as train.learning_rate=1e-2"
    return f"expected KEY=VALUE without spaces: {key}=VALUE"


@dataclass(frozen=True)
class NamedKey:
    """A key that an override sets."""

    key: str
    text: str  # the override

    def __str__(self) -> str:
        """The override, with the key if the override does not start with it."""
        text = one_line(self.text)
        return text if self.text.startswith(f"{self.key}=") else f"{one_line(self.key)} ({text})"


def named_keys(overrides: Sequence[str]) -> list[NamedKey]:
    """The keys that overrides set. Invalid overrides are skipped; loading the recipe reports them."""
    named = []
    for text in overrides:
        try:
            override = parse_override(text)
        except InvalidOverride:
            continue
        named += [NamedKey(key, text) for key in override.keys]
    return named
