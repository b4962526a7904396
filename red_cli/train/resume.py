"""Before a run: whether it may use its folder, and from which checkpoint it resumes."""

from __future__ import annotations

from pathlib import Path

from red_cli.errors import UserError
from red_cli.recipe.load import LoadedRecipe, load_trained_recipe
from red_cli.recipe.merged import expand_user
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder, changed_keys
from red_cli.train.checkpoint_folder import STATE_FILE, list_checkpoints, validation_error
from red_cli.train.learning_rate_record import as_found
from red_cli.train.lock import LOCK_FILE, FolderLock

_ANOTHER = "Delete it, or choose another folder: output.dir=…"


def find_resume_checkpoint(loaded: LoadedRecipe, lock: FolderLock, listener: Listener) -> Path | None:
    """Lock the run's folder, and find the checkpoint that the run resumes from.

    A folder that cannot be used is refused before the lock file is written to it. The check is repeated under the
    lock, because a run that held it meanwhile may have finished.

    Returns:
        The checkpoint, or None to start at the beginning.

    Raises:
        UserError: the folder holds something else, a finished run, or one of another recipe; or another process
            holds it.
    """
    folder = _require_unfinished(loaded)
    lock.take()
    _require_unfinished(loaded)
    _require_same_recipe(folder, loaded)
    resume = loaded.recipe.train.resume_from_checkpoint
    if isinstance(resume, str):
        named = _named_checkpoint(loaded, resume)
        own = named.resolve().parent == folder.checkpoints.resolve()
        return named if own else _last_valid_checkpoint(folder, listener) or named
    return _last_valid_checkpoint(folder, listener)


def require_usable_folder(loaded: LoadedRecipe) -> None:
    """Check quickly, before anything is loaded, that a run may use its folder.

    Raises:
        UserError: as `find_resume_checkpoint`.
    """
    folder = _require_unfinished(loaded)
    _require_same_recipe(folder, loaded)
    lock = FolderLock(folder.path)
    lock.take()
    lock.release()


def _require_same_recipe(folder: RunFolder, loaded: LoadedRecipe) -> None:
    if folder.recipe.is_file() and (changed := _changed(folder.path, loaded)):
        listed = "\n".join(f"  {line}" for line in changed)
        raise UserError(
            "different-recipe", f"{folder.path} holds an unfinished run of another recipe:\n{listed}", hint=_ANOTHER
        )


def _require_unfinished(loaded: LoadedRecipe) -> RunFolder:
    """The run's folder, which does not exist, is empty, or holds an unfinished run."""
    folder = RunFolder(loaded.run_folder)
    if folder.path.exists():
        if not folder.path.is_dir() or not _is_run(folder):
            raise UserError(
                "output-exists",
                f"{folder.path} exists and is not a run folder",
                hint="Choose another folder: output.dir=…",
            )
        if folder.finished:
            raise UserError("output-exists", f"{folder.path} already holds a finished run", hint=_ANOTHER)
    return folder


def _is_run(folder: RunFolder) -> bool:
    """Whether a run was begun in a folder, if only by locking it."""
    return folder.recipe.is_file() or all(
        path.name == LOCK_FILE or path.name.endswith(".tmp") for path in folder.path.iterdir()
    )


def _last_valid_checkpoint(folder: RunFolder, listener: Listener) -> Path | None:
    """The last valid checkpoint; a note names each damaged one after it."""
    for path in reversed(list_checkpoints(folder.checkpoints)):
        wrong = validation_error(path)
        if wrong is None:
            return path
        listener.note(f"{path} is damaged ({wrong}); it is left out, the one before it is taken.")
    if list_checkpoints(folder.checkpoints):
        listener.note("No checkpoint is whole: the run starts at the beginning.")
    return None


def _named_checkpoint(loaded: LoadedRecipe, name: str) -> Path:
    """A checkpoint of any run of the same recipe."""
    path = expand_user(name)
    if not (path / STATE_FILE).is_file():
        raise UserError("checkpoint-not-found", f"train.resume_from_checkpoint: {name} is not a checkpoint")
    if (wrong := validation_error(path)) is not None:
        raise UserError(
            "file-damaged", f"train.resume_from_checkpoint: {name} is damaged: {wrong}", hint="Name the one before it."
        )
    owner = path.resolve().parent.parent
    if RunFolder(owner).recipe.is_file() and (changed := _changed(owner, loaded)):
        listed = "\n".join(f"  {line}" for line in changed)
        raise UserError(
            "different-recipe",
            f"{name} is of a run of another recipe:\n{listed}",
            hint="Give the recipe it was begun with.",
        )
    return path


def _changed(folder: Path, loaded: LoadedRecipe) -> list[str]:
    """Keys by which `loaded` is another run than the one in `folder`."""
    begun = load_trained_recipe(RunFolder(folder).recipe)
    return changed_keys(as_found(begun, folder).recipe, as_found(loaded, folder).recipe)


def is_finished(loaded: LoadedRecipe) -> bool:
    """Whether the run's folder holds this run and it finished. An unfinished run can be resumed.

    Raises:
        UserError: it holds something else.
    """
    folder = RunFolder(loaded.run_folder)
    if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
        return False
    if not folder.path.is_dir() or not _is_run(folder):
        raise UserError(
            "output-exists", f"{folder.path} exists and is not a run folder", hint="Choose another folder: output.dir=…"
        )
    if folder.recipe.is_file() and (changed := _changed(folder.path, loaded)):
        listed = "\n".join(f"  {line}" for line in changed)
        raise UserError("different-recipe", f"{folder.path} holds a run of another recipe:\n{listed}", hint=_ANOTHER)
    return folder.finished
