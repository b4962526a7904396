"""YAML -> Recipe: variants and overrides merged, every fault found at once with its line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from red_cli.errors import UserError, one_line, shown
from red_cli.escape import file_name
from red_cli.recipe.consistency import inconsistencies
from red_cli.recipe.faults import Fault, as_error, did_you_mean, dotted, faults_of
from red_cli.recipe.find import find_recipe
from red_cli.recipe.keys import recipe_keys
from red_cli.recipe.overrides import NoOverride, parse_override
from red_cli.recipe.roles import LocalPath
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sense import idle_keys, mistakes
from red_cli.recipe.tasks.instruction import is_template_file
from red_cli.recipe.yaml_file import Document, KeyPath, read_document

_MOST_COPIES = 200_000  # keys of a file times its variants: each variant is checked with all keys of the file

Check = Callable[[Recipe], list[tuple[tuple[str, ...], str]]]  # -> (key path, what is wrong)


@dataclass(frozen=True)
class Loaded:
    """A recipe ready to run, and where it came from.

    Attributes:
        notes: keys that have no effect, in words.
        origins: where each key was given.
    """

    recipe: Recipe
    name: str
    variant: str | None
    notes: tuple[str, ...] = ()
    origins: Mapping[KeyPath, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def run_folder(self) -> Path:
        """Where the run goes: output.dir, or runs/<recipe>[-<variant>]-seed<seed> where you are."""
        if self.recipe.output.dir is not None:
            return expanded(self.recipe.output.dir)
        variant = f"-{self.variant}" if self.variant else ""
        return Path("runs") / file_name(f"{self.name}{variant}-seed{self.recipe.train.seed}")

    def refuse(self, path: KeyPath, message: str) -> UserError:
        """The error for a fault of one key that shows only once the data are read."""
        return as_error([Fault(_origin(path, self.origins), dotted(path), message)])


@dataclass
class _Merged:
    """Recipe data laid over one another, and where each key came from."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def lay(self, data: dict[str, Any], where: Callable[[KeyPath], str]) -> None:
        """Lay `data` over what is here: mappings merge key by key, everything else replaces."""
        self._lay(self.data, data, where, ())

    def _lay(
        self, target: dict[str, Any], data: dict[str, Any], where: Callable[[KeyPath], str], prefix: KeyPath
    ) -> None:
        for key, value in data.items():
            path = (*prefix, key)
            self.origins[path] = where(path)
            if isinstance(value, dict) and isinstance(target.get(key), dict):
                self._lay(target[key], value, where, path)
            else:
                target[key] = value
                self.origins.update({inner: where(inner) for inner in _paths_in(value, path)})

    def origin(self, path: KeyPath) -> str:
        """Where a key was given; for an absent one, its section."""
        return _origin(path, self.origins)


def _paths_in(value: Any, path: KeyPath) -> list[KeyPath]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [inner for key, part in parts for inner in ((*path, key), *_paths_in(part, (*path, key)))]


def _origin(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    while path and path not in origins:
        path = path[:-1]
    return origins.get(path, "the recipe")


def load_recipe(name_or_path: str, variant: str | None = None, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe, lay the variant and the `KEY=VALUE` overrides over it, and check it.

    Raises:
        UserError: no such recipe or variant, or any number of faults, all listed with file, line and key.
    """
    return _load(name_or_path, variant, overrides, lambda recipe: [*inconsistencies(recipe), *mistakes(recipe)])


def load_trained_recipe(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """The recipe in the folder of a run, as `load_recipe` has it. Values that mean nothing do no harm any more.

    Raises:
        UserError: no such file, or any number of faults.
    """
    return _load(str(path), None, overrides, inconsistencies)


def _load(name_or_path: str, variant: str | None, overrides: Sequence[str], check: Check) -> Loaded:
    path = find_recipe(name_or_path)
    document = read_document(path)
    faults = [Fault(f"{path}, line {line}", dotted(key), message) for line, key, message in document.faults]
    variants = document.data.pop("variants", {})
    if not _well_formed(variants):
        where = f"{path}, line {document.lines[('variants',)]}"
        faults.append(Fault(where, "variants", "expected names, each with a part of a recipe"))
        variants = {}
    faults += [
        Fault(
            f"{path}, line {document.lines[('variants', name)]}",
            "variants",
            f"{shown(name)} cannot be part of the name of the run's folder",
        )
        for name in variants
        if name != file_name(name)
    ]
    if len(document.lines) * len(variants) > _MOST_COPIES:
        raise UserError(f"{path}: too many variants of too many keys", hint="Divide them among several files.")
    if variant is not None and variant not in variants:
        known = f"It has: {', '.join(map(one_line, variants))}" if variants else "It has none."
        raise UserError(f"{path} has no variant {shown(variant)}", hint=f"{did_you_mean(variant, variants)}{known}")
    anchor_paths(document.data, path.parent)
    for part in variants.values():
        anchor_paths(part or {}, path.parent)
    chosen = _merged(path, document, variants, variant)
    for override in overrides:
        faults += _apply_override(chosen, override)
    told = {(fault.where, fault.key) for fault in faults}
    recipe, found = _validate(chosen, check)
    faults += [fault for fault in found if (fault.where, fault.key) not in told]
    for other in variants:  # a fault in a variant that was not asked for is a fault of the file all the same
        if other != variant:
            found = _validate(_merged(path, document, variants, other), check)[1]
            faults += [fault for fault in found if (fault.where, fault.key) not in told]
    if faults or recipe is None:
        raise as_error(faults)
    notes = [str(Fault(chosen.origin(key), dotted(key), text)) for key, text in idle_keys(recipe)]
    return Loaded(recipe, path.stem, variant, tuple(notes), chosen.origins)


def _merged(path: Path, document: Document, variants: dict[str, Any], variant: str | None) -> _Merged:
    merged = _Merged(origins={(): f"{path}"})
    merged.lay(copy.deepcopy(document.data), lambda key: f"{path}, line {document.lines[key]}")
    if variant is not None and variants[variant]:
        inside = ("variants", variant)
        merged.lay(copy.deepcopy(variants[variant]), lambda key: f"{path}, line {document.lines[(*inside, *key)]}")
    return merged


def variants_of(path: Path) -> list[str]:
    """The names of a recipe file's variants."""
    variants = read_document(path).data.get("variants", {})
    return list(variants) if _well_formed(variants) else []


def _well_formed(variants: Any) -> bool:
    return isinstance(variants, dict) and all(part is None or isinstance(part, dict) for part in variants.values())


def _apply_override(merged: _Merged, text: str) -> list[Fault]:
    where = f"command line, {one_line(text)}"
    try:
        override = parse_override(text)
    except NoOverride as error:
        return [Fault(where, error.key, str(error))]
    nested = override.nested
    anchor_paths(nested, Path.cwd())
    merged.lay(nested, lambda key: where)
    return []


def anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Make relative local paths in a part of a recipe start at `folder`; names that are no local path stay as they are.

    Those of a recipe file start at the file's folder, those on the command line where you are.
    """
    for key in recipe_keys().values():
        if key.local_path is not None:
            section, _, name = key.path.partition(".")
            values = data.get(section)
            if isinstance(values, dict) and isinstance(values.get(name), str):
                values[name] = _anchored(values[name], key.local_path, folder)


def _anchored(text: str, kind: LocalPath, folder: Path) -> str:
    if not text.strip() or (kind is LocalPath.OR_TEMPLATE and not is_template_file(text)):
        return text
    try:
        anchored = (folder / expanded(text)).resolve()
        hub_name = kind is LocalPath.OR_HUB_NAME and not text.startswith(".") and not anchored.exists()
    except (OSError, ValueError, RuntimeError):  # no path at all; what reads it will say so
        return text
    return text if hub_name else str(anchored)


def expanded(text: str) -> Path:
    """A path with `~` taken for the home folder, where there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _validate(merged: _Merged, check: Check) -> tuple[Recipe | None, list[Fault]]:
    try:
        recipe = Recipe.model_validate(merged.data)
    except ValidationError as error:
        return None, faults_of(error, merged.data, merged.origin)
    return recipe, [Fault(merged.origin(path), dotted(path), text) for path, text in check(recipe)]
