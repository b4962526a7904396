"""YAML -> Recipe: variants and overrides merged, every fault found at once with its line."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from red_cli.errors import UserError
from red_cli.escape import file_name
from red_cli.recipe.find import find_recipe
from red_cli.recipe.instruction import is_template_file
from red_cli.recipe.schema import Recipe, inconsistencies
from red_cli.recipe.yaml_file import KeyPath, parse_value, read_document

# Keys that may hold a local path: relative ones start at the file's folder; on the command line, where you are.
PATH_KEYS = (("data", "path"), ("data", "train"), ("data", "validation"), ("data", "test"), ("model", "name_or_path"),
             ("task", "template"), ("launch", "deepspeed_config"))  # fmt: skip

_MOST_SHOWN = 10

# pydantic's kind of error -> what was expected, in words
_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text (put it in quotes)",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}


@dataclass(frozen=True)
class Loaded:
    """A recipe ready to run, and where it came from."""

    recipe: Recipe
    name: str
    variant: str | None

    @property
    def run_folder(self) -> Path:
        """Where the run goes: output.dir, or runs/<recipe>[-<variant>]-seed<seed> where you are."""
        if self.recipe.output.dir is not None:
            return expanded(self.recipe.output.dir)
        variant = f"-{self.variant}" if self.variant else ""
        return Path("runs") / file_name(f"{self.name}{variant}-seed{self.recipe.train.seed}")


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a recipe."""

    where: str  # file and line, or "command line"
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.message}" if self.key else f"{self.where}: {self.message}"


@dataclass
class _Merged:
    """Recipe data laid over one another, and where each key came from."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def lay(self, data: dict[str, Any], where: dict[KeyPath, str], prefix: KeyPath = ()) -> None:
        """Lay `data` over what is here: mappings merge key by key, everything else replaces."""
        target: dict[Any, Any] = self.data
        for key in prefix:
            target = target.setdefault(key, {})
        for key, value in data.items():
            path = (*prefix, key)
            self.origins[path] = where[path]
            if isinstance(value, dict) and isinstance(target.get(key), dict):
                self.lay(value, where, path)
            else:
                target[key] = value
                self.origins.update({other: at for other, at in where.items() if other[: len(path)] == path})

    def origin(self, path: KeyPath) -> str:
        """Where a key was given; for an absent one, its section."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins[path]


def load_recipe(name_or_path: str, variant: str | None = None, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe, lay the variant and the `KEY=VALUE` overrides over it, and check it.

    Raises:
        UserError: no such recipe or variant, or any number of faults, all listed with file, line and key.
    """
    path = find_recipe(name_or_path)
    document = read_document(path)
    where = {key: f"{path}, line {line}" for key, line in document.lines.items()}
    faults = [Fault(f"{path}, line {line}", _dotted(key), message) for line, key, message in document.faults]
    variants = document.data.pop("variants", {})
    if not _well_formed(variants):
        faults.append(Fault(where[("variants",)], "variants", "expected names, each with a part of a recipe"))
        variants = {}
    faults += [
        Fault(where[("variants", name)], "variants", f"{name!r} cannot be part of the name of the run's folder")
        for name in variants
        if name != file_name(name)
    ]
    _anchor_paths(document.data, path.parent)
    for part in variants.values():
        _anchor_paths(part or {}, path.parent)

    def merged_with(chosen: str | None) -> _Merged:
        merged = _Merged(origins={(): f"{path}"})
        merged.lay(copy.deepcopy(document.data), where)
        if chosen is not None and variants[chosen]:
            inside = {key[2:]: at for key, at in where.items() if key[:2] == ("variants", chosen)}
            merged.lay(copy.deepcopy(variants[chosen]), inside)
        return merged

    if variant is not None and variant not in variants:
        known = f"It has: {', '.join(variants)}" if variants else "It has none."
        raise UserError(f"{path} has no variant {variant!r}", hint=f"{_did_you_mean(variant, variants)}{known}")
    chosen = merged_with(variant)
    for override in overrides:
        faults += _apply_override(chosen, override)
    recipe, found = _validate(chosen)
    faults += found
    for other in variants:  # a fault in a variant that was not asked for is a fault of the file all the same
        if other != variant:
            faults += _validate(merged_with(other))[1]
    if faults or recipe is None:
        listed = "\n".join(f"  {fault}" for fault in dict.fromkeys(faults))
        raise UserError(f"the recipe cannot be used:\n{listed}", hint="All keys and their meaning: red schema")
    return Loaded(recipe, name=path.stem, variant=variant)


def variants_of(path: Path) -> list[str]:
    """The names of a recipe file's variants."""
    variants = read_document(path).data.get("variants", {})
    return list(variants) if _well_formed(variants) else []


def _well_formed(variants: Any) -> bool:
    return isinstance(variants, dict) and all(part is None or isinstance(part, dict) for part in variants.values())


def _apply_override(merged: _Merged, override: str) -> list[Fault]:
    where = f"command line, {override}"
    key, equals, text = override.partition("=")
    if not equals or not key:
        return [Fault(where, "", "expected KEY=VALUE, such as train.learning_rate=1e-2")]
    try:
        value = parse_value(text)
    except ValueError as error:
        return [Fault(where, key, f"the value is not YAML: {error}")]
    parts = key.split(".")
    nested: dict[str, Any] = {parts[-1]: value}
    for part in reversed(parts[:-1]):
        nested = {part: nested}
    _anchor_paths(nested, Path.cwd())
    path: KeyPath = tuple(parts)
    places = {path[:end]: where for end in range(1, len(path) + 1)}
    places.update({(*path, *inner): where for inner in _inner_paths(value)})
    merged.lay(nested, places)
    return []


def _inner_paths(value: Any) -> list[KeyPath]:
    if not isinstance(value, dict):
        return []
    return [path for key, inner in value.items() for path in ((key,), *((key, *rest) for rest in _inner_paths(inner)))]


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Make relative local paths start at the recipe's folder; names that are no local path stay Hub names."""
    for section, key in PATH_KEYS:
        values = data.get(section)
        if not isinstance(values, dict) or not isinstance(values.get(key), str):
            continue
        text = values[key]
        if key == "template" and not is_template_file(text):
            continue
        try:
            anchored = (folder / expanded(text)).resolve()
        except (OSError, ValueError):  # no path at all; what reads it will say so
            continue
        hub_name = key in ("path", "name_or_path") and not text.startswith(".") and not anchored.exists()
        if not hub_name:
            values[key] = str(anchored)


def expanded(text: str) -> Path:
    """A path with `~` taken for the home folder, where there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _validate(merged: _Merged) -> tuple[Recipe | None, list[Fault]]:
    try:
        recipe = Recipe.model_validate(merged.data)
    except ValidationError as error:
        return None, _faults_of(error, merged)
    return recipe, [Fault(merged.origin(path), _dotted(path), text) for path, text in inconsistencies(recipe)]


def _faults_of(error: ValidationError, merged: _Merged) -> list[Fault]:
    """One fault for each key; the branches of a union are joined by "or"."""
    messages: dict[KeyPath, list[str]] = {}
    for detail in error.errors():
        path = _path_in_data(detail["loc"], merged.data, missing=detail["type"] == "missing")
        messages.setdefault(path, []).append(_message(dict(detail), path))
    return [
        Fault(merged.origin(path), _dotted(path), _joined(texts, _value_at(path, merged.data)))
        for path, texts in messages.items()
    ]


def _path_in_data(location: tuple[str | int, ...], data: Any, missing: bool) -> KeyPath:
    """pydantic's location without the names of union branches, which are no keys of the data."""
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
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key.{_nearest_key(path)}"
    if kind == "missing":
        return "required, but not given"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    if kind in ("literal_error", "union_tag_invalid"):
        options = context.get("expected") or context.get("expected_tags")
        options = options.replace("'", "")
        value = detail["input"].get("name") if isinstance(detail["input"], dict) else detail["input"]
        near = difflib.get_close_matches(str(value), options.replace(" or ", ", ").split(", "), n=1)
        return f"expected {options}{f' (nearest: {near[0]})' if near else ''}, got {value!r}"
    if kind == "union_tag_not_found":
        return "its name is required, such as  name: classification"
    if kind == "too_short":
        return f"expected at least {context['min_length']} item{'s' if context['min_length'] > 1 else ''}"
    if kind == "value_error":
        return f"expected {context['error']}"
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    if kind in bounds:
        words = kind.replace("_", " ").replace("than equal", "than or equal to")
        return f"expected a value {words} {context[bounds[kind]]}"
    return str(detail["msg"])


def _joined(texts: list[str], value: Any) -> str:
    shown = f", got {value!r}"
    texts = list(dict.fromkeys(text.removesuffix(shown) for text in texts))
    first, rest = texts[0], [text.removeprefix("expected ") for text in texts[1:]]
    if not first.startswith("expected") or isinstance(value, dict):
        shown = ""
    return " or ".join([first, *rest]) + shown


def _value_at(path: KeyPath, data: Any) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else data[part]
    return data


def _nearest_key(path: KeyPath) -> str:
    """Did you mean …? The nearest key of the same section, else the same key of another section."""
    keys = key_paths()
    parent, name = _dotted(path[:-1]), str(path[-1])
    if _dotted(path) in keys:
        return f" It is one of another {parent}."
    siblings = {key.rpartition(".")[2]: key for key in keys if key.rpartition(".")[0] == parent}
    near = [key for key in siblings if key.startswith(name)] or difflib.get_close_matches(name, siblings, n=1)
    if near:
        return f" Did you mean {siblings[near[0]]}?"
    elsewhere = {key.rpartition(".")[2]: key for key in keys}
    near = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.8)
    if near:
        return f" Did you mean {elsewhere[near[0]]}?"
    listed = 0 < len(siblings) <= _MOST_SHOWN
    return f" Known here: {', '.join(siblings)}" if listed else ""


def key_paths(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Every key of the schema as a dotted path."""
    paths = []
    for name, info in model.model_fields.items():
        paths.append(prefix + name)
        for section in _sections(info):
            paths += key_paths(section, f"{prefix}{name}.")
    return list(dict.fromkeys(paths))


def _sections(info: FieldInfo) -> list[type[BaseModel]]:
    candidates = (info.annotation, *get_args(info.annotation))
    return [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _did_you_mean(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]}? " if near else ""


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
