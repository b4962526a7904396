"""Whether the package that a method needs is installed."""

from __future__ import annotations

import importlib.util

from red_cli.errors import UserError
from red_cli.recipe.methods import METHODS, MethodName


def require_package(name: MethodName) -> None:
    """Check that the package that a method needs is there.

    Raises:
        UserError: it is not.
    """
    spec = METHODS[name]
    if spec.package is not None and importlib.util.find_spec(spec.package) is None:
        raise UserError(
            f"method {name}: {spec.package} is not installed", hint=f"Install it: pip install 'red-cli[{spec.extra}]'"
        )
