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


BAD_PAGE = """<html><body style="background: #fff"><main>
<div style="width: 700px">too wide for a phone</div>
<p style="color: #999; background: white">pale</p>
<p style="overflow: hidden; width: 60px; white-space: nowrap">cut at its end, where nobody can read it</p>
<svg viewBox="0 0 800 99" style="width: 300px"><text y="50" font-size="11" x="700">tiny, beyond the edge</text></svg>
</main></body></html>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium-headless-shell)")
def test_what_overflows_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(BAD_PAGE)
    measured = look_at(tmp_path / "page.html", tmp_path / "picture.png", 400, dark=False).measured
    assert measured["wide"] > 400
    found = {kind: " ".join(measured[kind]) for kind in ("outside", "low", "clipped", "small")}
    for kind, words in {"outside": "too wide", "low": "pale", "clipped": "cut at", "small": "tiny"}.items():
        assert words in found[kind]
    assert "tiny" in found["outside"]
