"""Expand environment variables in local paths of the command line and of recipes that the user names.

Recipes in folders that are opened (runs, adapters, exports) keep their text: a folder from somebody else reads no
variable of this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from red_cli.errors import one_line
from red_cli.files import expand_user

_VARIABLE = re.compile(r"\$(?:([A-Za-z]\w*)|\{(\w+)\})", re.ASCII)
_SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|_KEY|APIKEY")  # in names of variables; paths are recorded and shown


class VariableError(ValueError):
    """A variable in a path is not set, or stands where none may."""


def expand_variables(text: str, environment: Mapping[str, str] | None = None) -> str:
    """A path with `$NAME` and `${NAME}` replaced. A path that exists as it is written stays unchanged.

    Args:
        environment: the variables; default: those of this process.

    Raises:
        VariableError: a variable is not set, is empty, or may hold a secret.
    """
    if not _VARIABLE.search(text) or _exists(text):
        return text
    values = os.environ if environment is None else environment

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if _SECRET.search(name.upper()):
            raise VariableError(f"{name} may hold a secret, and paths are recorded; write the path out")
        if not values.get(name):
            raise VariableError(f"the environment variable {name} is not set; set it, or write the path out")
        return values[name]

    return _VARIABLE.sub(value, text)


def expand_name(text: str, environment: Mapping[str, str]) -> str:
    """A path that may be a name on the Hub instead, with its variables replaced.

    A name with a variable in it could carry the variable's value to the Hub, so the result must be a path.

    Raises:
        VariableError: a variable is not set, or the result is not a path.
    """
    expanded = expand_variables(text, environment)
    if expanded != text and not (expanded.startswith(".") or expand_user(expanded).is_absolute()):
        raise VariableError(
            f"{one_line(text)} does not begin with a folder, such as /data or ./data; variables are replaced only in "
            "paths, never in names on the Hub"
        )
    return expanded


def _exists(text: str) -> bool:
    """Whether a path exists with its dollar signs; names that no file can have do not."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
