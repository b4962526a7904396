"""Load recipes: apply variant and overrides to the merged sources, validate, and report all faults with their lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from red_cli.error_codes import Code
from red_cli.errors import UserError, did_you_mean, one_line, shown
from red_cli.escape import file_name
from red_cli.files import expand_user
from red_cli.recipe.bundled_recipes import find_recipe
from red_cli.recipe.consistency import idle_keys, inconsistencies, mistakes
from red_cli.recipe.faults import Fault, as_error, dotted, faults_of, origin_of
from red_cli.recipe.overrides import InvalidOverride, parse_override
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import KeyFault
from red_cli.recipe.sources import (
    MergedSources,
    Source,
    merge_sources,
    read_alone,
    read_sources,
    resolve_paths,
    without_launch,
)
from red_cli.recipe.yaml_file import KeyPath

_MOST_COPIES = 200_000  # keys times variants of a file: each variant is validated with all keys

Check = Callable[[Recipe], dict[Code, list[KeyFault]]]


@dataclass(frozen=True)
class LoadedRecipe:
    """A validated recipe and its origin.

    Attributes:
        notes: messages about keys that have no effect.
        origins: key path -> where the key was set.
    """

    recipe: Recipe
    name: str
    variant: str | None
    notes: tuple[str, ...] = ()
    origins: Mapping[KeyPath, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def run_folder(self) -> Path:
        """The run folder: output.dir, or runs/<recipe>[-<variant>]-seed<seed> in the working directory."""
        if self.recipe.output.dir is not None:
            return expand_user(self.recipe.output.dir)
        variant = f"-{self.variant}" if self.variant else ""
        return Path("runs") / file_name(f"{self.name}{variant}-seed{self.recipe.train.seed}")

    def refuse(self, path: KeyPath, message: str) -> UserError:
        """The error for a fault of one key that is found only when the data are read."""
        return as_error([Fault(origin_of(path, self.origins), dotted(path), message)])


def load_recipe(name_or_path: str, variant: str | None = None, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Load and validate a recipe. Later parts override earlier ones: extended files, file, variant, `KEY=VALUE`.

    Raises:
        UserError: the recipe or variant does not exist, or there are faults; all are listed with file, line and key.
    """
    return _load(read_sources(find_recipe(name_or_path)), variant, overrides, _conflicts_and_mistakes)


def load_recipe_to_apply(name_or_path: str, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Load a recipe as `load_recipe` does, for a trained model: where it trains has no effect, only `overrides` has.

    Raises:
        UserError: as there.
    """
    return _load(without_launch(read_sources(find_recipe(name_or_path))), None, overrides, _conflicts_and_mistakes)


def load_recorded_recipe_to_apply(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Load a recorded recipe as `load_recorded_recipe` does, for a trained model: `overrides` alone say where it runs.

    Raises:
        UserError: as there.
    """
    sources = without_launch(read_alone(find_recipe(str(path))))
    return _load(sources, None, overrides, _conflicts)


def load_recorded_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Load the recipe file that a run recorded. Values that only `mistakes` refuses are accepted, since the run exists.

    Raises:
        UserError: the file does not exist, or there are faults.
    """
    sources = read_alone(find_recipe(str(path)))
    return _load(sources, None, overrides, _conflicts)


def _conflicts(recipe: Recipe) -> dict[Code, list[KeyFault]]:
    """The faults between keys, for a recipe that was trained before."""
    return {"conflicting-keys": inconsistencies(recipe)}


def _conflicts_and_mistakes(recipe: Recipe) -> dict[Code, list[KeyFault]]:
    """The faults between keys, and the values that can only be a mistake, for a recipe that is used now."""
    return {**_conflicts(recipe), "invalid-value": mistakes(recipe)}


def _load(sources: list[Source], variant: str | None, overrides: Sequence[str], check: Check) -> LoadedRecipe:
    """Load a recipe from merged files, variant and overrides; report all faults of all variants at once."""
    path = sources[-1].path
    file, faults = merge_sources(sources)
    variants = file.data.pop("variants", {})
    if not _well_formed(variants):
        faults.append(Fault(file.origin(("variants",)), "variants", "expected named variants, each with recipe keys"))
        variants = {}
    faults += [
        Fault(
            file.origin(("variants", name)),
            "variants",
            f"{shown(name)} cannot be part of the run folder's name",
        )
        for name in variants
        if name != file_name(name)
    ]
    if len(file.origins) * len(variants) > _MOST_COPIES:
        raise UserError(
            "invalid-yaml", f"{path}: too many variants of too many keys", hint="Split them into several files."
        )
    if variant is not None and variant not in variants:
        known = f"It has: {', '.join(map(one_line, variants))}" if variants else "It has none."
        raise UserError(
            "unknown-variant",
            f"{path} has no variant {shown(variant)}",
            hint=f"{did_you_mean(variant, variants)}{known}",
        )
    chosen = _with_variant(file, variants, variant)
    for override in overrides:
        faults += _apply_override(chosen, override)
    known_faults = {(fault.where, fault.key) for fault in faults}
    recipe, found = _validate(chosen, check)
    faults += [fault for fault in found if (fault.where, fault.key) not in known_faults]
    for other in variants:  # a fault in a variant that is not used is still a fault of the file
        if other != variant:
            found = _validate(_with_variant(file, variants, other), check)[1]
            faults += [fault for fault in found if (fault.where, fault.key) not in known_faults]
    if faults or recipe is None:
        raise as_error(faults)
    notes = [str(Fault(chosen.origin(key), dotted(key), text)) for key, text in idle_keys(recipe)]
    return LoadedRecipe(recipe, path.stem, variant, tuple(notes), chosen.origins)


def _with_variant(file: MergedSources, variants: dict[str, Any], variant: str | None) -> MergedSources:
    """Load a variant: a copy of the merged recipe file with it applied, if one is named."""
    merged = file.copy()
    if variant is not None and variants[variant]:
        merged.merge(variants[variant], lambda key: file.origin(("variants", variant, *key)))
    return merged


def loadable_variants(path: Path) -> list[str]:
    """The names of the variants with which a recipe can be loaded, those of recipes it extends included."""
    variants = merge_sources(read_sources(path))[0].data.get("variants", {})
    return list(variants) if _well_formed(variants) else []


def _well_formed(variants: Any) -> bool:
    """Whether variants can be loaded: a mapping of names to mappings or nothing."""
    return isinstance(variants, dict) and all(part is None or isinstance(part, dict) for part in variants.values())


def _apply_override(merged: MergedSources, text: str) -> list[Fault]:
    """Apply a KEY=VALUE to the recipe that is being loaded from files and variant; return all its faults."""
    where = f"command line, {one_line(text)}"
    try:
        override = parse_override(text)
    except InvalidOverride as error:
        return [Fault(where, error.key, str(error), "invalid-yaml" if error.key else "invalid-option")]
    nested = override.nested
    faults = resolve_paths(nested, Path.cwd(), os.environ)
    merged.merge(nested, lambda key: where)
    return [Fault(where, dotted(key), text) for key, text in faults]


def _validate(merged: MergedSources, check: Check) -> tuple[Recipe | None, list[Fault]]:
    """Validate a merged recipe by the schema and the checks; return it, or None, and its faults."""
    try:
        recipe = Recipe.model_validate(merged.data)
    except ValidationError as error:
        return None, faults_of(error, merged.data, merged.origin)
    return recipe, [
        Fault(merged.origin(path), dotted(path), text, code)
        for code, faults in check(recipe).items()
        for path, text in faults
    ]
