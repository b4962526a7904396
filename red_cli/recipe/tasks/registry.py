"""All tasks: the settings class of each module of this package."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

import red_cli.recipe.tasks as package
from red_cli.recipe.tasks.base import TaskSettings

# The order in messages and in the JSON schema; others follow by name
_ORDER = ("classification", "regression", "glue", "generation", "e2e", "instruction", "commonsense")


def _settings(module: str) -> list[type[TaskSettings]]:
    """The settings classes of a module: those with a key `name`."""
    defined = vars(import_module(f"{package.__name__}.{module}")).values()
    kinds = [kind for kind in defined if isinstance(kind, type) and issubclass(kind, TaskSettings)]
    return [kind for kind in kinds if "name" in kind.model_fields]


def _place(module: str) -> tuple[int, str]:
    """Sort key of a task's module: its place in the registry's order; unlisted modules last, by name."""
    return (_ORDER.index(module) if module in _ORDER else len(_ORDER), module)


_MODULES = sorted({module.name for module in pkgutil.iter_modules(package.__path__)} - {"registry"}, key=_place)
TASKS = tuple(dict.fromkeys(kind for module in _MODULES for kind in _settings(module)))

if TYPE_CHECKING:
    Task = TaskSettings
else:
    Task = Annotated[Union[TASKS], Field(discriminator="name")]  # noqa: UP007 - of a tuple
