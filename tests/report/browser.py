"""Headless Chromium: a picture of a page at a width, light or dark, and what does not fit on it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from html import unescape
from pathlib import Path

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in _NAMES if (found := shutil.which(name))), None)
_OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--allow-file-access-from-files", "--disable-extensions"]  # fmt: skip
_TALL = 900
_SECONDS = 90
# Texts that end outside the window or outside a box that hides what does not fit. A box that scrolls is at the end of
# its own row, so that what it holds can be reached; SVG texts must lie inside their picture and have a readable size.
_MEASURE = """
<script>
for (const fold of document.querySelectorAll('details')) fold.open = true;
const found = {inner: innerWidth, wide: document.documentElement.scrollWidth, tall: 0, clipped: [], small: [],
  outside: [], dark: matchMedia('(prefers-color-scheme: dark)').matches, low: []};
const name = element => element.tagName + ': ' + element.textContent.trim().slice(0, 60);
for (const element of document.querySelectorAll('main *')) {
  if (element.closest('svg')) continue;
  const style = getComputedStyle(element), scrolls = style.overflowX === 'auto';
  if (!scrolls && style.display !== 'inline' && element.scrollWidth > element.clientWidth + 1 && element.clientWidth)
    if (element.textContent.trim()) found.clipped.push(name(element));
  const box = element.getBoundingClientRect();
  if (box.right > innerWidth + 1 && !element.closest('.wide')) found.outside.push(name(element));
}
for (const text of document.querySelectorAll('svg text')) {
  const box = text.getBoundingClientRect(), picture = text.closest('svg').getBoundingClientRect();
  if (box.left < picture.left - 1 || box.right > picture.right + 1 || box.top < picture.top - 1 ||
    box.bottom > picture.bottom + 1) found.outside.push(name(text));
  const scale = picture.width / text.closest('svg').viewBox.baseVal.width;
  if (parseFloat(getComputedStyle(text).fontSize) * scale < 8.5) found.small.push(name(text));
}
const channel = value => { value /= 255; return value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4; };
const luminance = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(Number);
  return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b); };
const page = luminance(getComputedStyle(document.body).backgroundColor);
for (const element of document.querySelectorAll('main p, main li, main td, main th, main dt, main dd, svg text')) {
  const style = getComputedStyle(element), own = luminance(element.closest('svg') ? style.fill : style.color);
  const contrast = (Math.max(own, page) + .05) / (Math.min(own, page) + .05);
  if (contrast < 4.5) found.low.push(name(element) + ' ' + contrast.toFixed(1));
}
found.tall = document.documentElement.scrollHeight;
const note = document.createElement('pre');
note.id = 'measured'; note.hidden = true; note.textContent = JSON.stringify(found);
document.body.append(note);
</script>
"""


@dataclass(frozen=True)
class Look:
    """A picture of a page, and what was measured on it."""

    picture: Path
    measured: dict[str, object]


def look_at(page: Path, picture: Path, width: int, dark: bool) -> Look:
    """Open a page in a window of `width` pixels with every fold opened, measure it and write a picture of all of it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{_MEASURE}</body>"), encoding="utf-8")
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        shared = [str(CHROMIUM), *_OPTIONS, scheme, f"--user-data-dir={folder}/profile"]
        dom = _run([*shared, f"--window-size={width},{_TALL}", "--dump-dom", copy.as_uri()])
        noted = re.search(r'<pre id="measured"[^>]*>(.*?)</pre>', dom, re.DOTALL)
        assert noted is not None, dom[-2000:]
        measured = json.loads(unescape(noted[1]))
        size = f"--window-size={width},{measured['tall']}"
        _run([*shared, size, f"--screenshot={picture}", copy.as_uri()])
    return Look(picture, measured)


def _run(command: list[str]) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    return outcome.stdout
