"""The RUN argument of commands: the trained model, or the run of a recipe, that it means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from red_cli import console
from red_cli.errors import UserError

if TYPE_CHECKING:
    from red_cli.runs.open_trained import Opened

_MOST_MEANT = 3  # runs in a hint


def trained_folder(target: Path, overrides: list[str] | None) -> tuple[Path, list[str]]:
    """The folder that the RUN argument means, and the overrides that remain.

    Raises:
        UserError: the target is a recipe that has not been trained.
    """
    if target.is_dir():
        return target, overrides or []
    from red_cli.distributed.worker_process import started_by_red
    from red_cli.runs.run_of_recipe import run_of

    folder, remaining = run_of(target, overrides or [])
    if folder != target and not started_by_red():  # the process that started this one has said so
        console.print_text(f"{target} is no run; the run {folder} is used", stderr=True)
    return folder, remaining


def with_similar_runs(error: UserError, path: Path) -> UserError:
    """The error for a RUN argument that is no trained model; its hint names similar runs."""
    from red_cli.runs.run_of_recipe import similar_runs

    runs = similar_runs(path)
    meant = f"Did you mean {' or '.join(runs[:_MOST_MEANT])}? " if runs else ""
    return UserError(error.code, error.message, hint=f"{meant}{error.hint or ''}")


def require_trained(target: Path, recipe: str | None) -> None:
    """Check that the RUN argument is a trained model. Nothing slow is imported.

    Raises:
        UserError: it is something else; the hint names runs with similar names.
    """
    from red_cli.runs.folder_kind import require_kind

    try:
        require_kind(target, recipe)
    except UserError as error:
        raise with_similar_runs(error, target) from None


def open_target(target: Path, recipe: str | None, overrides: list[str]) -> Opened:
    """Open the trained model that the RUN argument names.

    Raises:
        UserError: `target` is not a trained model. Nothing slow is imported before this check.
    """
    require_trained(target, recipe)
    from red_cli.runs.open_trained import open_for_inference

    return open_for_inference(target, recipe, overrides)
