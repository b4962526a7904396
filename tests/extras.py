"""Marks for tests of what needs an extra, or Java: they are skipped where it is absent."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from red_cli.recipe.methods import METHODS
from red_cli.tasks.text_metrics.java import INSTALL_JAVA, find_java

# extra -> what it installs
_PACKAGES = {
    "baselines": ("peft",),
    "deepspeed": ("deepspeed",),
    "excel": ("python_calamine",),
    "gguf": ("gguf",),
    "nlg": ("sacrebleu", "pycocoevalcap", "rouge_score"),
    "plot": ("matplotlib",),
    "track": ("tensorboard",),
}

needs_java = pytest.mark.skipif(find_java() is None, reason=f"needs Java ({INSTALL_JAVA})")


def has_extra(name: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in _PACKAGES[name])


def needs_extra(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not has_extra(name), reason=f"needs the extra {name}")


def cases(table: Mapping[str, Sequence[Any]], extras: Mapping[str, str]) -> list[Any]:
    """The rows of a table of cases; `extras` names those that need one."""
    marks = {row: needs_extra(extra) for row, extra in extras.items()}
    return [pytest.param(*values, id=row, marks=marks.get(row, ())) for row, values in table.items()]


def methods(names: Sequence[str]) -> list[Any]:
    extras = {name: spec.extra for name, spec in METHODS.items() if spec.extra is not None and name in names}
    return cases({name: (name,) for name in names}, extras)
