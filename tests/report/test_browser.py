"""Reports in a real browser, on a phone and on a desk, light and dark: nothing overflows, and all can be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.extras import needs_extra
from tests.report.browser import CHROMIUM, look_at
from tests.report.full_run import full_run, methods_and_seeds
from tests.report.test_comparison import eight_tasks

PAGES: dict[str, Callable[[Path], Path]] = {
    "one run": full_run,
    "a shallow run": lambda folder: full_run(folder, layers=4),
    "methods": methods_and_seeds,
    "eight tasks": eight_tasks,
}


@pytest.mark.slow
@needs_extra("plot")
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium-headless-shell)")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_overflows(red, tmp_path: Path, name: str, width: int, dark: bool) -> None:
    folder = PAGES[name](tmp_path / "runs")
    assert red("report", folder).code == 0
    pictures = Path(os.environ.get("RED_SCREENSHOTS", tmp_path))  # to look at them: RED_SCREENSHOTS=FOLDER
    picture = pictures / f"{name}-{width}-{'dark' if dark else 'light'}.png"
    look = look_at(folder / "report" / "report.html", picture, width, dark)
    measured = look.measured
    assert (measured["inner"], measured["dark"]) == (width, dark)
    assert measured["wide"] <= width
    assert {name: measured[name] for name in ("clipped", "outside", "small", "low")} == {
        "clipped": [], "outside": [], "small": [], "low": [],
    }  # fmt: skip
    assert look.picture.stat().st_size > 10_000
