"""Describe the faults of a recipe: the key, where it was set, and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from red_cli.error_codes import Code
from red_cli.errors import UserError, nearest, one_line, shown
from red_cli.formatting import number_of
from red_cli.recipe.aliases import alias_of, in_words
from red_cli.recipe.explain import key_helps
from red_cli.recipe.schema import key_paths
from red_cli.recipe.yaml_file import KeyPath, dump_flow

_MOST_LISTED = 10  # keys of a section
_MOST_FAULTS = 20
_MOST_MEANT = 3  # keys of one name in different sections
_ALMOST = 0.8  # similarity of names that differ in a letter or two

# pydantic's type of error -> what was expected
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text (put it in quotes)",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}
_CODES: dict[str, Code] = {"extra_forbidden": "unknown-key", "missing": "missing-key"}  # any other: invalid-value
_WORDS = {"none": "null", "nil": "null", "yes": "true", "on": "true", "no": "false", "off": "false"}
_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a recipe."""

    where: str  # file and line, or "command line"
    key: str
    message: str
    code: Code = "invalid-value"

    def __str__(self) -> str:
        return f"{self.where}: {one_line(self.key)}: {self.message}" if self.key else f"{self.where}: {self.message}"


def as_error(faults: Iterable[Fault]) -> UserError:
    """One error that lists all distinct faults, at most the first 20."""
    distinct = list(dict.fromkeys(faults))
    lines = [f"  {fault}" for fault in distinct[:_MOST_FAULTS]]
    if more := len(distinct) - len(lines):
        lines.append(f"  and {more:,} more")
    listed = "\n".join(lines)
    return UserError(
        "invalid-recipe",
        f"the recipe cannot be used:\n{listed}",
        hint="All keys and their meaning: red keys",
        faults=[vars(fault) for fault in distinct[:_MOST_FAULTS]],
    )


def faults_of(error: ValidationError, data: dict[str, Any], origin: Callable[[KeyPath], str]) -> list[Fault]:
    """One fault for each key of `data`; messages of the branches of a union are joined by "or".

    Args:
        origin: key path -> where the key was set.
    """
    messages: dict[KeyPath, list[str]] = {}
    codes: dict[KeyPath, Code] = {}
    for detail in error.errors(include_url=False):
        path = _path_in_data(detail["loc"], data, missing=detail["type"] == "missing")
        if path in messages or len(messages) <= _MOST_FAULTS:  # finding the nearest known key is slow
            messages.setdefault(path, []).append(_message(dict(detail), path))
            codes[path] = _CODES.get(detail["type"], "invalid-value")
    return [
        Fault(origin(path), dotted(path), _joined(texts, _value_at(path, data), path), codes[path])
        for path, texts in messages.items()
    ]


def dotted(path: KeyPath) -> str:
    """The key of a fault as its description writes it, in dotted form: train.seed, red.layers[2]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _path_in_data(location: tuple[str | int, ...], data: Any, missing: bool) -> KeyPath:
    """pydantic's location without the names of union branches, which are not keys of the data."""
    path: list[str | int] = []
    last = len(location) - 1
    for index, part in enumerate(location):
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if inside:
            data = data[part]
            path.append(part)
        elif missing and index == last:
            path.append(part)
    return tuple(path)


def _message(detail: dict[str, Any], path: KeyPath) -> str:
    """Describe one validation error of a recipe: what was expected at the key, and the nearest valid name."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key.{_meant(path, detail['input'])}"
    if kind == "missing":
        return "required, but not given"
    if kind in _EXPECTED:
        alias = alias_of(dotted(path)) if _EXPECTED[kind] == "keys and values" else None
        example = f", such as {alias.keys[0]}" if alias and alias.keys else ""
        return f"expected {_EXPECTED[kind]}{example}"
    if kind in ("literal_error", "union_tag_invalid"):
        options = (context.get("expected") or context.get("expected_tags")).replace("'", "")
        value = detail["input"].get("name") if isinstance(detail["input"], dict) else detail["input"]
        near = nearest(str(value), options.replace(" or ", ", ").split(", "))
        return f"expected {options}{f' (nearest: {near[0]})' if near else ''}, got {shown(value)}"
    if kind == "union_tag_not_found":
        return "its name is required, such as task.name=classification"
    if kind == "too_short":
        return f"expected at least {number_of(context['min_length'], 'item')}"
    if kind == "value_error":
        return f"expected {context['error']}"
    if kind in _BOUNDS:
        words = kind.replace("_", " ").replace("than equal", "than or equal to")
        return f"expected a value {words} {_plain(context[_BOUNDS[kind]])}"
    return str(detail["msg"])


def _plain(bound: float) -> str:
    """A numeric bound as text for the message of a fault, without decimals if it is whole."""
    return str(int(bound)) if bound == int(bound) else str(bound)


def _joined(texts: list[str], value: Any, path: KeyPath) -> str:
    """Join the messages of several faults of one key into one, with the value found at the end."""
    got = f", got {shown(value)}"
    spelt = _spelt(value, texts, path)
    texts = list(dict.fromkeys(text.removesuffix(got) for text in texts))
    first, rest = texts[0], [text.removeprefix("expected ") for text in texts[1:]]
    if not first.startswith("expected") or isinstance(value, dict):
        got = ""
    return " or ".join([first, *rest]) + got + (f" (write {spelt})" if spelt else "")


def _spelt(value: Any, texts: list[str], path: KeyPath) -> str | None:
    """How a recipe spells a word of another language for true, false or null; None if this is not the fault."""
    word = _WORDS.get(value.lower()) if isinstance(value, str) else None
    if word == "null":
        known = key_helps().get(dotted(path))  # none of an unknown key, a section, or an item of a list
        return word if known is not None and "null" in known.type.split() else None
    return word if any("true or false" in text for text in texts) else None


def _value_at(path: KeyPath, data: Any) -> Any:
    """The value at the key path of a fault in the recipe's data."""
    for part in path:
        data = data.get(part) if isinstance(data, dict) else data[part]
    return data


def _meant(path: KeyPath, value: Any) -> str:
    """Suggest a known key for an unknown one: by its alias, by its name in other sections, or the most similar."""
    keys = key_paths()
    parent, name = dotted(path[:-1]), str(path[-1])
    if "." in name:
        return _meant_nested(dotted(path), value, keys)
    if dotted(path) in keys:
        return f" Another {parent} has it."
    if alias := alias_of(dotted(path)):
        return f" {in_words(alias)}"
    siblings = {key.rpartition(".")[2]: key for key in keys if key.rpartition(".")[0] == parent}
    if near := [key for key in siblings if key.startswith(name)] or nearest(name, siblings, cutoff=_ALMOST):
        return f" Did you mean {siblings[near[0]]}?"
    if same := [key for key in keys if key.rpartition(".")[2] == name]:
        return f" Did you mean {' or '.join(same[:_MOST_MEANT])}?"
    elsewhere = {key.rpartition(".")[2]: key for key in keys}
    if near := nearest(name, elsewhere, cutoff=_ALMOST):
        return f" Did you mean {elsewhere[near[0]]}?"
    if near := nearest(name, siblings):
        return f" Did you mean {siblings[near[0]]}?"
    listed = 0 < len(siblings) <= _MOST_LISTED
    return f" Keys here: {', '.join(siblings)}" if listed else ""


def _meant_nested(key: str, value: Any, keys: Sequence[str]) -> str:
    """Show a dotted key of a file in nested form."""
    alias = alias_of(key)
    known = [key] if key in keys else list(alias.keys) if alias else nearest(key, keys, cutoff=_ALMOST)
    right, _, fixed = (known or [key])[0].partition("=")
    parts = right.split(".")
    nested = f"{parts[-1]}: {fixed or dump_flow(value)}"
    for part in reversed(parts[:-1]):
        nested = f"{part}: {{{nested}}}"
    return f" In a file, nest keys instead of using dots: {one_line(nested)}"


def origin_of(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Where the key of a fault was set; for an absent one, its section."""
    while path and path not in origins:
        path = path[:-1]
    return origins.get(path, "the recipe")
