"""The lists of versions have all packages that are needed, and fit pyproject.toml."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIRECT = [
    Requirement(text)
    for texts in (PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values())
    for text in texts
]
NEED_UPDATE = "scripts/update_versions.sh brings it up to date"


def versions(name: str) -> dict[str, list[Version]]:
    """Package -> its versions in a list of scripts/; several if they depend on Python or the platform."""
    found: dict[str, list[Version]] = {}
    for line in (ROOT / "scripts" / name).read_text().splitlines():
        if match := re.match(r"([\w.-]+)==([^ ;]+)", line):
            found.setdefault(canonicalize_name(match[1]), []).append(Version(match[2]))
    return found


def installed_closure() -> set[str]:
    """The direct packages and their installed dependencies."""
    waiting = [(canonicalize_name(each.name), frozenset(each.extras)) for each in DIRECT]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        seen.add((name, extras))
        for each in map(Requirement, requires):
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((canonicalize_name(each.name), frozenset(each.extras)))
    return {name for name, _ in seen}


def test_every_package_has_a_version() -> None:
    listed, installed = versions("constraints.txt"), installed_closure()
    for name in installed & listed.keys():
        version = importlib.metadata.version(name)
        if Version(Version(version).public) not in listed[name]:
            pytest.skip(f"the environment has versions of its own, such as {name} {version}")
    assert not installed - listed.keys(), NEED_UPDATE


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_lists_fit_the_bounds(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert all(requirement.specifier.contains(each) for each in versions("constraints.txt")[name]), NEED_UPDATE
    (bound,) = requirement.specifier
    assert bound.operator == ">="
    release = Version(bound.version).release
    assert any(each.release[: len(release)] == release for each in versions("constraints-lowest.txt")[name]), (
        NEED_UPDATE
    )
