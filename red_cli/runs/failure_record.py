"""The record of the error that ended a run, in its folder, so that a later look at the folder finds it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from red_cli.errors import Interrupted, RedError, UserError, first_line, out_of_space
from red_cli.files import read_json, write_json

if TYPE_CHECKING:
    from red_cli.runs.folder import RunFolder

FAILURE_FILE = "failure.json"


@contextlib.contextmanager
def recording_failure(folder: RunFolder) -> Iterator[None]:
    """Record the error that ends a run inside the block; the record of an earlier error is removed first."""
    if folder.writes:
        (folder.path / FAILURE_FILE).unlink(missing_ok=True)
    try:
        yield
    except Interrupted:  # nothing failed: the same command resumes
        raise
    except Exception as error:
        if folder.writes and folder.recipe.is_file():
            with contextlib.suppress(OSError):
                write_json(folder.path / FAILURE_FILE, _record_of(error))
        raise


def _record_of(error: Exception) -> dict[str, Any]:
    """The content of failure.json: code, message, hint and time of the error."""
    known = error if isinstance(error, RedError) else out_of_space(error)
    if known is None:
        known = RedError("unexpected", f"{type(error).__name__}: {first_line(error)}")
    time = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"code": known.code, "message": known.message, "hint": known.hint, "time": time}


def read_failure(folder: Path) -> str | None:
    """The message of the error that ended the run, from its record; None if there is no record."""
    path = folder / FAILURE_FILE
    if not path.is_file():
        return None
    with contextlib.suppress(UserError, OSError):
        content = read_json(path)
        if isinstance(content, dict) and isinstance(content.get("message"), str):
            return str(content["message"])
    return f"{FAILURE_FILE} is damaged"
