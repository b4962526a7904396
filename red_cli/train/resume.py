"""Check that a run may use its folder, and find the checkpoint that it resumes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.files import expand_user
from red_cli.recipe.chosen_metrics import with_metric
from red_cli.recipe.keys_by_role import role_of, training_keys
from red_cli.recipe.load import LoadedRecipe, load_recorded_recipe
from red_cli.recipe.roles import Role
from red_cli.recipe.schema import Recipe, with_dtype
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder
from red_cli.train.checkpoint_folder import STATE_FILE, list_checkpoints, validation_error
from red_cli.train.learning_rate_record import with_searched_rate
from red_cli.train.lock import LOCK_FILE, FolderLock

_DTYPE_KEY = "model.dtype"
_OTHER_FOLDER = "Delete it, or choose another folder: output.dir=…"


def find_resume_checkpoint(loaded: LoadedRecipe, lock: FolderLock, listener: Listener) -> Path | None:
    """Lock the run folder, and find the checkpoint that the run resumes from.

    The folder is checked before the lock file is written to it, and again under the lock, because a run that held the
    lock may have finished meanwhile.

    Returns:
        The checkpoint, or None to start at the beginning.

    Raises:
        UserError: the folder is not a run, or holds a finished run or a run of another recipe; or another process
            holds the lock.
    """
    folder = _require_unfinished(loaded)
    lock.take()
    _require_unfinished(loaded)
    _require_same_recipe(folder.path, loaded, f"{folder.path} holds an unfinished run of", _OTHER_FOLDER)
    resume = loaded.recipe.train.resume_from_checkpoint
    if isinstance(resume, str):
        named = _named_checkpoint(loaded, resume)
        own = named.resolve().parent == folder.checkpoints.resolve()
        return named if own else _last_valid_checkpoint(folder, listener) or named
    return _last_valid_checkpoint(folder, listener)


def with_recorded_choices(loaded: LoadedRecipe, checkpoint: Path | None) -> LoadedRecipe:
    """The recipe with what it leaves open as in the run whose checkpoint it resumes from: dtype of the base, metric.

    The metric chose the best evaluation so far.
    """
    recipe = loaded.recipe
    if checkpoint is None or (recipe.eval.metric is not None and recipe.model.dtype != "auto"):
        return loaded
    file = RunFolder(checkpoint.resolve().parent.parent).recipe
    if not file.is_file():
        return loaded
    recorded = load_recorded_recipe(file).recipe
    if recipe.eval.metric is None:
        recipe = with_metric(recipe, recorded.eval.metric or recorded.task.metrics[0])
    if recipe.model.dtype == "auto" and recorded.model.dtype != "auto":
        recipe = with_dtype(recipe, recorded.model.dtype)
    return replace(loaded, recipe=recipe)


def require_new_or_resumable_folder(loaded: LoadedRecipe) -> None:
    """Check that a run can start in its folder or resume there: it is new, or holds an unfinished run of the recipe.

    Raises:
        UserError: the folder cannot be used, as in `find_resume_checkpoint`.
    """
    folder = _require_unfinished(loaded)
    _require_same_recipe(folder.path, loaded, f"{folder.path} holds an unfinished run of", _OTHER_FOLDER)
    lock = FolderLock(folder.path)
    lock.take()
    lock.release()


def _require_same_recipe(folder: Path, loaded: LoadedRecipe, what: str, hint: str) -> None:
    """Check that a run to resume in `folder` has the recipe `loaded`; `what` starts the message."""
    file = RunFolder(folder).recipe
    if file.is_file():
        started = load_recorded_recipe(file)
        before, now = with_searched_rate(started, folder), with_searched_rate(loaded, folder)
        _refuse_changes(changed_keys(before.recipe, now.recipe), what, hint)


def _refuse_changes(changed: list[str], what: str, hint: str) -> None:
    """Refuse to use or resume the run folder of another recipe, naming the keys `changed`; `what` is first."""
    if changed:
        listed = "\n".join(f"  {line}" for line in changed)
        if any(line.startswith("train.rates: absolute") for line in changed):
            hint = f"To keep its rates: train.rates=absolute. {hint}"
        raise UserError("different-recipe", f"{what} another recipe:\n{listed}", hint=hint)


def _require_unfinished(loaded: LoadedRecipe) -> RunFolder:
    """Check that a run may use its folder: it is new, empty, or has an unfinished run to resume; returns it."""
    folder = RunFolder(loaded.run_folder)
    if folder.path.exists():
        _require_run(folder)
        if folder.finished:
            raise UserError("output-exists", f"{folder.path} already holds a finished run", hint=_OTHER_FOLDER)
    return folder


def _require_run(folder: RunFolder) -> None:
    """Check that there is a run to resume in a folder; an empty or merely locked folder counts."""
    if folder.path.is_dir() and (
        folder.recipe.is_file()
        or all(path.name == LOCK_FILE or path.name.endswith(".tmp") for path in folder.path.iterdir())
    ):
        return
    raise UserError(
        "output-exists", f"{folder.path} exists and is not a run folder", hint="Choose another folder: output.dir=…"
    )


def _last_valid_checkpoint(folder: RunFolder, listener: Listener) -> Path | None:
    """The last valid checkpoint, or None; a note names each damaged one that is skipped."""
    for path in reversed(list_checkpoints(folder.checkpoints)):
        wrong = validation_error(path)
        if wrong is None:
            return path
        listener.note(f"{path} is damaged ({wrong}) and is skipped.")
    if list_checkpoints(folder.checkpoints):
        listener.note("All checkpoints are damaged; the run starts from the beginning.")
    return None


def _named_checkpoint(loaded: LoadedRecipe, name: str) -> Path:
    """The checkpoint `name`, of any run of the same recipe."""
    path = expand_user(name)
    if not (path / STATE_FILE).is_file():
        raise UserError("checkpoint-not-found", f"train.resume_from_checkpoint: {name} is not a checkpoint")
    if (wrong := validation_error(path)) is not None:
        raise UserError(
            "file-damaged", f"train.resume_from_checkpoint: {name} is damaged: {wrong}", hint="Name an earlier one."
        )
    _require_same_recipe(
        path.resolve().parent.parent, loaded, f"{name} belongs to a run of", "Use the recipe of that run."
    )
    return path


def is_finished(loaded: LoadedRecipe) -> bool:
    """Whether there is nothing to resume: the run folder holds this run, and it finished.

    Raises:
        UserError: the folder is not a run, or holds a run of another recipe.
    """
    folder = RunFolder(loaded.run_folder)
    if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
        return False
    _require_run(folder)
    _require_same_recipe(folder.path, loaded, f"{folder.path} holds a run of", _OTHER_FOLDER)
    return folder.finished


def finished_result(loaded: LoadedRecipe) -> dict[str, Any] | None:
    """The metrics.json of a finished run, with nothing to resume, and its path under "folder"; else None.

    Returns:
        None if the folder does not exist, or its run is not finished.

    Raises:
        UserError: the run is one of another recipe; the message has each key that differs.
    """
    folder = RunFolder(loaded.run_folder)
    if not folder.recipe.is_file() or not folder.finished:
        return None
    before = with_searched_rate(load_recorded_recipe(folder.recipe), folder.path)
    changed = changed_keys(before.recipe, with_searched_rate(loaded, folder.path).recipe)
    more = "To train this run further: --more-epochs N. " if _only_longer(changed) else ""
    _refuse_changes(changed, f"{folder.path} holds a finished run of", f"{more}{_OTHER_FOLDER}")
    return {**folder.read_results(), "folder": str(folder.path)}


def _only_longer(changed: list[str]) -> bool:
    """Whether nothing but the length of a finished run differs."""
    return all(line.startswith(("train.num_train_epochs:", "train.max_steps:")) for line in changed)


def changed_keys(before: Recipe, now: Recipe) -> list[str]:
    """The keys that forbid to resume the run `before` as `now`, as `key: old -> new`."""
    old, new = training_keys(before), training_keys(now)
    changed = []
    for key in sorted(old.keys() | new.keys()):
        # Found by trying, or chosen by the classes of the rows or the base's files, and then recorded
        found = role_of(key) in (Role.MICRO_BATCH, Role.METRIC) and new.get(key) is None
        found = found or (key == _DTYPE_KEY and new.get(key) == "auto")
        if not found and old.get(key) != new.get(key):
            changed.append(f"{key}: {old.get(key)} -> {new.get(key)}")
    return changed
