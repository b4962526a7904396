"""Before a run: may it use its folder, and where does it go on?"""

from __future__ import annotations

from pathlib import Path

from red_cli.errors import UserError
from red_cli.recipe.load import Loaded, expanded
from red_cli.run.checkpoint import STATE_FILE, list_checkpoints, read_state
from red_cli.run.folder import RunFolder, changed_keys, open_run
from red_cli.run.search_record import as_found


def claim_folder(loaded: Loaded) -> Path | None:
    """Check that the run may write to its folder; nothing is written yet.

    Returns:
        The checkpoint to go on from, or None to start at the beginning.

    Raises:
        UserError: the folder holds something else, a finished run, or an unfinished one that is not to be resumed;
            or the recipe is not the one that was begun.
    """
    folder = RunFolder(loaded.run_folder)
    resume = loaded.recipe.train.resume_from_checkpoint
    another = "Delete it, or choose another folder: output.dir=…"
    if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
        return _named_checkpoint(loaded, resume) if isinstance(resume, str) else None
    if not folder.path.is_dir() or not folder.recipe.is_file():
        raise UserError(f"{folder.path} exists and is not a run folder", hint="Choose another folder: output.dir=…")
    if folder.finished:
        raise UserError(f"{folder.path} already holds a finished run", hint=another)
    if changed := _changed(folder.path, loaded):
        listed = "\n".join(f"  {line}" for line in changed)
        raise UserError(f"{folder.path} holds an unfinished run of another recipe:\n{listed}", hint=another)
    if isinstance(resume, str):
        return _named_checkpoint(loaded, resume)
    checkpoints = list_checkpoints(folder.checkpoints)
    if not resume:
        stands = f"stopped after step {read_state(checkpoints[-1]).step}" if checkpoints else "without a checkpoint"
        raise UserError(
            f"{folder.path} already holds an unfinished run ({stands})", hint=f"Go on with --resume. {another}"
        )
    return checkpoints[-1] if checkpoints else None


def _named_checkpoint(loaded: Loaded, name: str) -> Path:
    """A checkpoint of any run of the same recipe."""
    path = expanded(name)
    if not (path / STATE_FILE).is_file():
        raise UserError(f"train.resume_from_checkpoint: {name} is not a checkpoint")
    owner = path.resolve().parent.parent
    if RunFolder(owner).recipe.is_file() and (changed := _changed(owner, loaded)):
        listed = "\n".join(f"  {line}" for line in changed)
        raise UserError(f"{name} is of a run of another recipe:\n{listed}", hint="Give the recipe it was begun with.")
    return path


def _changed(folder: Path, loaded: Loaded) -> list[str]:
    """Keys by which `loaded` is another run than the one in `folder`."""
    begun = open_run(folder)[1]
    return changed_keys(as_found(begun, folder).recipe, as_found(loaded, folder).recipe)


def is_finished(loaded: Loaded) -> bool:
    """Whether the run's folder holds this very run, finished; an unfinished one may be gone on with.

    Raises:
        UserError: it holds something else.
    """
    folder = RunFolder(loaded.run_folder)
    if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
        return False
    another = "Delete it, or choose another folder: output.dir=…"
    if not folder.path.is_dir() or not folder.recipe.is_file():
        raise UserError(f"{folder.path} exists and is not a run folder", hint="Choose another folder: output.dir=…")
    if changed := _changed(folder.path, loaded):
        listed = "\n".join(f"  {line}" for line in changed)
        raise UserError(f"{folder.path} holds a run of another recipe:\n{listed}", hint=another)
    return folder.finished
