"""The pictures of the documentation: drawn from the figures next to them, safe and readable wherever they are shown."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from red_cli.formatting import three_digits
from tests.documents.pages import ROOT, name_of

FIGURES = ROOT / "docs" / "figures"
PICTURES = [pytest.param(path, id=name_of(path)) for path in sorted((ROOT / "docs").glob("**/*.svg"))]
LARGEST = 300_000  # bytes


@pytest.mark.parametrize("path", PICTURES)
def test_a_picture_is_small_and_runs_nothing(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    root = ElementTree.parse(path).getroot()
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not names & {"script", "foreignObject", "image"}
    attributes = {name.rpartition("}")[2] for element in root.iter() for name in element.attrib}
    assert not any(name.startswith("on") for name in attributes)
    links = [value for element in root.iter() for name, value in element.attrib.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)


@pytest.mark.parametrize("name", ["images/recording.svg", "figures/rates.svg", "figures/adapter_changes.svg"])
def test_a_picture_is_light_or_dark_with_its_system(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    assert "prefers-color-scheme" in text
    assert "<rect" in text  # a background of its own, since a page may be dark when the system is light


def test_the_recording_shows_the_quickstart() -> None:
    text = (ROOT / "docs" / "images" / "recording.svg").read_text()
    for command in ("red check quickstart", "red train quickstart", "red report runs/quickstart-seed42"):
        assert f">{command}<" in text
    assert "prefers-reduced-motion" in text
    assert str(ROOT) not in text


def test_pictures_are_drawn_from_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every method is drawn; the committed pictures have the same titles and names."""
    pytest.importorskip("matplotlib")
    for name in ("rates.csv", "adapter_changes.json"):
        shutil.copy(FIGURES / name, tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw_figures.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "tools" / "draw_figures.py"), run_name="__main__")
    with (FIGURES / "rates.csv").open(newline="") as file:
        methods = {row["method"] for row in csv.DictReader(file)}
    shown = texts_of(tmp_path / "rates.svg")
    assert methods <= {text.partition(",")[0] for text in shown}
    changes = json.loads((FIGURES / "adapter_changes.json").read_text())
    largest = max(module["scale"]["rms"] for module in changes["modules"])
    assert f"strongest: {three_digits(largest)}" in texts_of(tmp_path / "adapter_changes.svg")
    for name in ("rates.svg", "adapter_changes.svg"):
        assert texts_of(FIGURES / name) == texts_of(tmp_path / name), (
            f"python tools/draw_figures.py docs/figures: {name}"
        )
    assert "plateau" in capsys.readouterr().out


def texts_of(path: Path) -> list[str]:
    """The texts of a picture, without the numbers of axes, which depend on matplotlib's version."""
    found = [element.text or "" for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]
    return [text for text in found if re.search("[A-Za-z]{2}", text)]
