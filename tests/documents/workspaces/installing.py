"""An empty folder of runs; the base and the data of the page's commands are bundled."""

from __future__ import annotations

from pathlib import Path


def prepare(folder: Path) -> None:
    (folder / "runs").mkdir()
