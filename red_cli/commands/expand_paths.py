"""Expand paths in the arguments and options of commands."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from red_cli.errors import UserError, one_line
from red_cli.files import expand_user
from red_cli.recipe.variables import VariableError, expand_variables

_NAMES_OR_PATHS = ("recipe", "base", "template", "file")  # parameters whose text may be a path
_OVERRIDE = re.compile(r"[\w.]+=")  # in the place of a path; its key says whether variables are replaced


def with_expanded_paths(command: Callable[..., None]) -> Callable[..., None]:
    """Expand `~` and environment variables in a command's paths, also where no shell did so (`--output=~/x`).

    Raises:
        UserError: a variable is not set.
    """

    @functools.wraps(command)
    def run(*arguments: Any, **values: Any) -> None:
        command(*arguments, **{name: _expanded(name, value) for name, value in values.items()})

    return run


def _expanded(name: str, value: Any) -> Any:
    """Expand the paths in the value of a command's argument or option.

    Raises:
        UserError: a variable is not set.
    """
    if isinstance(value, list):
        return [_expanded(name, part) for part in value]
    text_of_path = name in _NAMES_OR_PATHS and isinstance(value, str) and not _OVERRIDE.match(value)
    if not isinstance(value, Path) and not text_of_path:
        return value
    try:
        return type(value)(expanded_path(str(value)))
    except VariableError as error:
        raise UserError("invalid-option", f"{one_line(str(value))}: {error}") from None


def expanded_path(text: str) -> str:
    """A path with `~` and environment variables replaced.

    Raises:
        VariableError: a variable is not set.
    """
    if not text.startswith("~") and "$" not in text:
        return text
    return str(expand_user(expand_variables(text)))
