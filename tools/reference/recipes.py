"""The page of bundled recipes and their variants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from red_cli.edit.config import RedConfig
from red_cli.recipe.bundled_recipes import recipe_folder, recipe_names, recipe_title
from red_cli.recipe.sources import MergedSources, merge_sources, read_sources
from reference.markdown import code, codes, page, table, text

_INTRODUCTION = """\
`red recipes` lists these recipes, `red recipes show NAME` prints one with its comments, and `red recipes copy NAME`
copies it so that you can change it. `--variant NAME` chooses a variant, as in
`red train glue_rte --variant roberta-large`.
"""


def make() -> str:
    """The text of the page."""
    merged = {name: merge_sources(read_sources(recipe_folder() / f"{name}.yaml"))[0] for name in recipe_names()}
    groups: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for name, recipe in merged.items():
        groups.setdefault(tuple(_variants(recipe)), []).append(name)
    return page(
        "Recipes",
        _INTRODUCTION,
        table(("recipe", "base", "what it trains"), (_row(*item) for item in merged.items())),
        "## Variants",
        *(part for rows, names in groups.items() if rows for part in _group(names, rows)),
    )


def _row(name: str, recipe: MergedSources) -> tuple[str, ...]:
    """The row of a recipe, without a variant."""
    title = recipe_title(recipe_folder() / f"{name}.yaml")
    return code(name), code(_base(recipe.data)), text(title)


def _base(data: Mapping[str, Any]) -> str:
    """The base of a recipe; a bundled one is named by its last part."""
    name = str(data["model"]["name_or_path"])
    return f"{PurePath(name).name} (bundled)" if PurePath(name).is_absolute() else name


def _variants(recipe: MergedSources) -> Iterable[tuple[str, ...]]:
    """The rows of a recipe's variants: the name, the base and the edited positions."""
    for variant, changes in (recipe.data.get("variants") or {}).items():
        changed = recipe.copy()
        changed.merge(changes or {}, lambda key: "")
        positions = changed.data.get("red", {}).get("positions", RedConfig().positions)
        yield code(variant), code(_base(changed.data)), codes([positions] if isinstance(positions, str) else positions)


def _group(names: list[str], rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    """The variants of the recipes that have the same ones."""
    yield f"{codes(names)}:"
    yield table(("variant", "base", "positions"), rows)
