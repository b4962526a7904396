"""The workflows for GitHub: their form, and that what they run exists."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
STEPS = {(name, job): each["steps"] for name, flow in WORKFLOWS.items() for job, each in flow["jobs"].items()}
RUN = {place: [line for step in steps for line in step.get("run", "").splitlines()] for place, steps in STEPS.items()}


def test_they_read_only_and_end() -> None:
    for flow in WORKFLOWS.values():
        assert flow[True]  # YAML takes `on` for a truth value
        assert flow["permissions"] == {"contents": "read"}
        assert all(0 < job["timeout-minutes"] <= 90 for job in flow["jobs"].values())


def test_only_the_site_may_write_and_pages_alone() -> None:
    given = {
        name: job["permissions"]
        for flow in WORKFLOWS.values()
        for name, job in flow["jobs"].items()
        if "permissions" in job
    }
    assert given == {"publish": {"contents": "read", "pages": "write", "id-token": "write"}}
    assert WORKFLOWS["site"][True]["push"]["branches"] == ["main"]  # and nobody's pull request


@pytest.mark.parametrize("place", STEPS, ids="-".join)
def test_each_job_checks_out_and_has_a_python(place: tuple[str, str]) -> None:
    first, second, *_ = STEPS[place]
    assert first["uses"].startswith("actions/checkout@v")
    assert second["uses"].startswith("actions/setup-python@v")
    assert re.fullmatch(r"3\.1\d", second["with"]["python-version"])  # text: a number would lose a zero


def test_every_check_is_run() -> None:
    lines = {line for lines in RUN.values() for line in lines}
    assert {".ci/run", ".ci/across_versions --lowest", ".ci/across_versions --newest"} <= lines
    assert "twine check --strict dist/*" in lines
    assert "schedule" in WORKFLOWS["newest"][True]  # and not for every change
    for line in lines:
        if line.startswith(".ci/"):
            assert os.access(ROOT / line.split()[0], os.X_OK)


def test_the_folders_across_versions_exist() -> None:
    text = (ROOT / ".ci" / "across_versions").read_text()
    places = re.findall(r"tests/\S+", text)
    assert places
    assert all((ROOT / place).exists() for place in places)
