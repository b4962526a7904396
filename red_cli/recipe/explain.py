"""Explain recipe keys from the schema: type, choices, default and meaning; find keys by a pattern."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from red_cli.recipe.aliases import alias_of
from red_cli.recipe.schema import json_schema, recipe_keys
from red_cli.recipe.yaml_file import dump_flow

_WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": "null", "number": "number"}
_BOUNDS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
_EMPTY: dict[str | None, Any] = {"array": [], "object": {}}  # defaults that the JSON schema leaves out, by type
_HUGE = 1_000_000  # larger bounds only refuse typing errors


@dataclass(frozen=True)
class KeyHelp:
    """What is known of a recipe key.

    Attributes:
        type: its type and bounds in words; "section" for one that contains keys.
        default: as YAML; None if it must be given, or for a section.
        choices: the values that it may have; empty if they cannot be listed.
        tasks: for a key of `task`, the tasks that have it.
    """

    key: str
    type: str
    default: str | None
    choices: tuple[str, ...]
    description: str
    tasks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@cache
def key_helps() -> dict[str, KeyHelp]:
    """What explains each recipe key: dotted path -> help, sections before their keys."""
    schema = json_schema()
    return {path: _help(path, _nodes(schema, schema, path.split("."))) for path in recipe_keys()}


def task_key_helps(task: str) -> dict[str, KeyHelp]:
    """What explains the recipe keys of one task, which may differ from those of other tasks: dotted path -> help."""
    schema = json_schema_once()
    nodes = {path: _nodes(schema, schema, path.split(".")) for path in recipe_keys() if path.startswith("task.")}
    own = {path: [node for node in found if _task_of(schema, node[0]) == task] for path, found in nodes.items()}
    return {path: _help(path, found) for path, found in own.items() if found}


def keys_to_explain(pattern: str | None) -> list[KeyHelp]:
    """The keys to explain for a pattern: part of a path, one with `*` and `?`, an alias, or words of a meaning.

    Without a pattern, all keys. The key of this very name stands alone; a section comes with its keys.
    """
    helps = key_helps()
    if not pattern:
        return list(helps.values())
    plain = pattern.lower().removesuffix("=")
    if plain in helps:
        return [found for path, found in helps.items() if path == plain or path.startswith(f"{plain}.")]
    named = [path for path in helps if path.rpartition(".")[2] == plain]
    inside = [path for path in helps if plain in path or fnmatchcase(path, plain)]
    alias = alias_of(pattern)
    meant = [key.partition("=")[0] for key in alias.keys] if alias else []
    described = [path for path, found in helps.items() if plain in found.description.lower()]
    return [helps[path] for path in named or meant or inside or described]


def _nodes(schema: dict[str, Any], node: dict[str, Any], path: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """(name of the definition that holds it, entry) of a key in the JSON schema, one for each form of its section."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, part in _forms(schema, node):
        inner = part.get("properties", {}).get(path[0])
        if inner is not None and len(path) == 1:
            required = path[0] in part.get("required", ())
            found.append((name, {**inner, "required": required}))
        elif inner is not None:
            found += _nodes(schema, inner, path[1:])
    return found


def _forms(schema: dict[str, Any], node: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(definition's name, node) of each form of a key to explain; its reference and unions are resolved."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return [(name, schema["$defs"][name])]
    inner = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    forms = [form for part in inner for form in _forms(schema, part)]
    return forms if forms and "properties" not in node else [("", node)]


def _help(path: str, nodes: list[tuple[str, dict[str, Any]]]) -> KeyHelp:
    """The help of the key at a path, from its entries in the JSON schema."""
    schema = json_schema_once()
    entries = [entry for _, entry in nodes]
    first = entries[0]
    choices = tuple(dict.fromkeys(choice for entry in entries for choice in _choices(schema, entry)))
    tasks = tuple(_task_of(schema, name) for name, _ in nodes) if path.startswith("task.") else ()
    words = list(dict.fromkeys(part for entry in entries for part in _type(schema, entry)))
    if choices and not set(words) - {"null"}:
        words = ["one of its choices", *words]
    kind = "section" if recipe_keys()[path].is_section else " or ".join(words)
    default = None if first["required"] else dump_flow(first.get("default", _EMPTY.get(first.get("type"))))
    described = " ".join(dict.fromkeys(_description(schema, entry) for entry in entries))
    return KeyHelp(path, kind, None if kind == "section" else default, choices, described, tasks)


@cache
def json_schema_once() -> dict[str, Any]:
    """The JSON schema that explanations of keys are read from, made once."""
    return json_schema()


def _task_of(schema: dict[str, Any], definition: str) -> str:
    """The name of the task that a definition of the JSON schema describes."""
    return str(schema["$defs"][definition]["properties"]["name"]["const"])


def _description(schema: dict[str, Any], entry: dict[str, Any]) -> str:
    """The description of a key; for a section without one, the first lines of its class."""
    if "description" in entry:
        return str(entry["description"])
    forms = [form["description"] for _, form in _forms(schema, entry) if "description" in form]
    return forms[0].split("\n\n")[0] if len(forms) == 1 else ""


def _choices(schema: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """The values that an entry of the JSON schema lists."""
    if "const" in entry:
        return [dump_flow(entry["const"])]
    if "enum" in entry:
        return [dump_flow(value) for value in entry["enum"]]
    if entry.get("type") == "boolean":
        return ["true", "false"]
    if "items" in entry:
        return _choices(schema, entry["items"])
    return [choice for part in entry.get("anyOf", ()) for choice in _choices(schema, part)]


def _type(schema: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """The types of an entry of the JSON schema in words, with their bounds; choices have none of their own."""
    if "anyOf" in entry:
        return [part for inner in entry["anyOf"] for part in _type(schema, inner)]
    if "enum" in entry or "const" in entry:
        return []
    if entry.get("type") == "array":
        return [f"list of {' or '.join(_type(schema, entry['items'])) or 'choices'}"]
    if "type" not in entry or entry["type"] == "object":
        return ["keys and values"]
    bounds = [f"{words} {_plain(entry[key])}" for key, words in _BOUNDS.items() if abs(entry.get(key, _HUGE)) < _HUGE]
    return [" ".join([_WORDS[entry["type"]], " and ".join(bounds)]).strip()]


def _plain(bound: float) -> str:
    """A bound that explains a key, without the fraction that some versions of pydantic write after whole numbers."""
    return f"{int(bound):,}" if float(bound).is_integer() else f"{bound:,}"
