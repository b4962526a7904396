"""Writing a report's folder: report.html, report.md, report.json and the pictures, all or none of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.report.document import ReportDocument, render_html, render_markdown

JSON_FILE = "report.json"
_TEXTS = ("report.md", "report.html", JSON_FILE)
HEAT_MAP, LEARNING_CURVE = "heat_map.png", "learning_curve.png"
COMPARISON, SCORE_BY_PARAMETERS = "comparison.png", "score_by_parameters.png"
_PICTURES = (HEAT_MAP, LEARNING_CURVE, COMPARISON, SCORE_BY_PARAMETERS)
_TMP_DIR = ".report.tmp"  # a folder that remains only if the process is killed while it writes


def check_output(folder: Path) -> None:
    """Check that a report can be written to `folder`, before any work is done.

    Raises:
        UserError: it is a file, or a folder that contains anything but an earlier report.
    """
    if not folder.exists():
        return
    foreign = [path.name for path in folder.iterdir() if not _is_ours(path)] if folder.is_dir() else [folder.name]
    if foreign:
        raise UserError(
            "output-exists",
            f"{folder} exists and is not a report: it holds {sorted(foreign)[0]}",
            hint="Choose another: --output",
        )


def write_report(folder: Path, document: ReportDocument, data: dict[str, Any]) -> list[Path]:
    """Write a report to `folder`, replacing an earlier one.

    Args:
        data: the content of report.json.

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
        **{picture.name: picture.png for picture in document.pictures},
    }
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / _TMP_DIR
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        for earlier in [path for path in folder.iterdir() if path.is_file() and path.name not in files]:
            earlier.unlink()
        for name in files:
            (temporary / name).replace(folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    return [folder / name for name in files]


def _is_ours(path: Path) -> bool:
    """Whether a file in the report's folder was written by an earlier report, and may be replaced."""
    return path.name == _TMP_DIR or (path.is_file() and path.name in (*_TEXTS, *_PICTURES))
