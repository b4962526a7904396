"""A grid of recipe keys: every combination of their values is a run of a comparison."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from red_cli.errors import UserError, one_line, shown
from red_cli.recipe.keys_by_role import role_of
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.roles import SHARED
from red_cli.recipe.yaml_file import dump_flow, parse_value

_MOST_POINTS = 1000
_NOT_IN_FOLDERS = re.compile(r"[^\w.+=-]+")
_HOW = "Give a key and its values: --grid train.learning_rate=1e-3,3e-3"


@dataclass(frozen=True)
class Setting:
    """A value of a key of the grid."""

    key: str
    value: Any

    @property
    def override(self) -> str:
        return f"{self.key}={json.dumps(self.value)}"

    @property
    def text(self) -> str:
        """The value as tables show it."""
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return f"{self.value:g}" if number else self.value if isinstance(self.value, str) else dump_flow(self.value)


Point = tuple[Setting, ...]  # one value of each key


@dataclass(frozen=True)
class Grid:
    """A key and its values; of one method, or of all if `method` is None."""

    method: str | None
    key: str
    values: list[Any]


def parse_grids(texts: Sequence[str], methods: Sequence[str], overrides: Sequence[str]) -> list[Grid]:
    """Parse the options --grid, `[METHOD:]KEY=VALUE,VALUE`.

    Args:
        overrides: those of the command line, without the names of methods.

    Raises:
        UserError: an option is malformed, names a method that is not compared or a key that has to be the same in all
            runs, gives a value or a key twice, or the key is also set by an override.
    """
    set_already = {named.key for named in named_keys(overrides)}
    grids: list[Grid] = []
    for text in texts:
        name, equals, listed = text.partition("=")
        prefix, colon, rest = name.partition(":")
        method, key = (prefix, rest) if colon else (None, name)
        what = f"--grid {one_line(text)}"
        if not equals or not key or not listed.strip():
            raise UserError("invalid-option", f"{what}: expected KEY=VALUE,VALUE", hint=_HOW)
        if method is not None and method not in methods:
            raise UserError(
                "unknown-name",
                f"{what}: {shown(method)} is not one of the methods",
                hint=f"Methods: {', '.join(methods)}",
            )
        if role_of(key) in SHARED:
            raise UserError(
                "invalid-option",
                f"{what}: {one_line(key)} has to be the same in all runs of a comparison",
                hint="Seeds are given by --seeds, methods by --methods.",
            )
        if key in set_already:
            raise UserError("invalid-option", f"{what}: {one_line(key)} is set as well", hint="Drop one of them.")
        if any(grid.key == key and (grid.method is None or method in (None, grid.method)) for grid in grids):
            raise UserError("invalid-option", f"{what}: {one_line(key)} has a grid already")
        grids.append(Grid(method, key, _values(listed, what)))
    return grids


def _values(listed: str, what: str) -> list[Any]:
    """The values of a key of the grid, separated by commas; a comma inside brackets belongs to the value."""
    try:
        values = parse_value(f"[{listed}]")
    except ValueError as error:
        raise UserError("invalid-option", f"{what}: {error}", hint=_HOW) from None
    if not isinstance(values, list) or not values or any(isinstance(value, dict) for value in values):
        raise UserError("invalid-option", f"{what}: expected values, separated by commas", hint=_HOW)
    texts = [json.dumps(value) for value in values]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise UserError("invalid-option", f"{what}: {one_line(twice[0])} is given twice")
    return values


def points_of(method: str, grids: Sequence[Grid]) -> list[Point]:
    """Every combination of the values of a method's grids; one empty point without any.

    Raises:
        UserError: there are too many.
    """
    own = [grid for grid in grids if grid.method in (None, method)]
    settings = [[Setting(grid.key, value) for value in grid.values] for grid in own]
    points = list(itertools.islice(itertools.product(*settings), _MOST_POINTS + 1))
    if len(points) > _MOST_POINTS:
        raise UserError("invalid-option", f"--grid: more than {_MOST_POINTS:,} combinations of {method}")
    return points


def folder_name(point: Point) -> str:
    """The name of the folder for a point of the grid, such as learning_rate=0.001."""
    return ",".join(_NOT_IN_FOLDERS.sub("_", f"{setting.key.rpartition('.')[2]}={setting.text}") for setting in point)
