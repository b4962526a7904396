"""The steps that CONTRIBUTING.md gives name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PLACES = sorted(set(re.findall(r"`((?:[\w.<>-]+/)*[\w.<>-]+(?:\.py|\.sh|\.txt|\.md|\.json|\.toml|/))`", TEXT)))


@pytest.mark.parametrize("place", PLACES)
def test_a_place_exists(place: str) -> None:
    pattern = place.replace("<name>", "*")
    assert any(any(folder.glob(pattern)) for folder in (ROOT, ROOT / "red_cli"))


def test_every_step_names_places() -> None:
    steps = {step[0]: step[1] for step in re.findall(r"^- (A new [\w ]+?) is((?:.*\n)(?:  .*\n)*)", TEXT, re.MULTILINE)}
    assert steps.keys() == {f"A new {kind}" for kind in ("architecture", "task", "method", "metric", "recipe key")}
    assert all(any(f"`{place}`" in step for place in PLACES) for step in steps.values())


def test_the_table_has_every_room() -> None:
    rooms = {path.name for path in (ROOT / "red_cli").iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    assert rooms <= {place.removeprefix("red_cli/").rstrip("/") for place in PLACES}
