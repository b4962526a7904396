"""A report's folder: report.md, report.html, report.json and the pictures, all of them or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.report.document import Document
from red_cli.report.html import render_html
from red_cli.report.markdown import render_markdown

JSON_FILE = "report.json"
_TEXTS = ("report.md", "report.html", JSON_FILE)
HEAT_MAP, LEARNING_CURVE, COMPARISON = "heat_map.png", "learning_curve.png", "comparison.png"
_PICTURES = (HEAT_MAP, LEARNING_CURVE, COMPARISON)
_ASIDE = ".report.tmp"  # a folder, left only where writing was killed


def check_output(folder: Path) -> None:
    """Make sure, before any work, that a report may be written to `folder`.

    Raises:
        UserError: it is a file, or a folder that holds anything but an earlier report.
    """
    if not folder.exists():
        return
    foreign = [path.name for path in folder.iterdir() if not _is_ours(path)] if folder.is_dir() else [folder.name]
    if foreign:
        raise UserError(
            f"{folder} exists and is not a report: it holds {sorted(foreign)[0]}", hint="Choose another: --output"
        )


def write_report(folder: Path, document: Document, data: dict[str, Any]) -> list[Path]:
    """Write the report to `folder`, instead of an earlier one where there is one.

    Returns:
        The files, the HTML page first.

    Raises:
        UserError: as `check_output`.
    """
    check_output(folder)
    files = {
        "report.html": render_html(document).encode(),
        "report.md": render_markdown(document).encode(),
        JSON_FILE: (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode(),
        **document.pictures,
    }
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / _ASIDE
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for name, content in files.items():
            (aside / name).write_bytes(content)
        for earlier in [path for path in folder.iterdir() if path.is_file() and path.name not in files]:
            earlier.unlink()
        for name in files:
            (aside / name).replace(folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    return [folder / name for name in files]


def _is_ours(path: Path) -> bool:
    return path.name == _ASIDE or (path.is_file() and path.name in (*_TEXTS, *_PICTURES))
