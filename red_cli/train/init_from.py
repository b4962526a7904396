"""Start a run from the trained parameters of another one: the recipes and checks of `train.init_from`, `--more-epochs`.

The parameters are those of the other run's best evaluation. The optimiser, the learning-rate schedule and the order of
the rows begin again, so the other run stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from red_cli.edit.adapter_config import AdapterConfig, read_adapter_config
from red_cli.errors import UserError
from red_cli.files import TRAINED_FILE, expand_user
from red_cli.formatting import number_of
from red_cli.methods.trained_description import TrainedConfig, read_trained_config, read_trained_files
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.schema import Recipe
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import folder_kind, not_trained
from red_cli.train.checkpoint_folder import list_checkpoints
from red_cli.train.resume import finished_result

_KEY = ("train", "init_from")
_SELECTORS = {"positions", "layers", "target_modules"}  # judged by the modules that they select
_FREE = {"dropout"}  # of a method, may differ: it is no part of what was trained


def with_more_epochs(loaded: LoadedRecipe, epochs: float) -> LoadedRecipe:
    """The recipe of a run initialised from the recipe's finished run: `epochs` further, in a folder next to it.

    Raises:
        UserError: there is no such run, it is unfinished, or it is one of another recipe.
    """
    result, folder = finished_result(loaded), loaded.run_folder
    if result is None:
        raise UserError(
            "run-unfinished",
            f"--more-epochs: {folder} holds no finished run",
            hint="Train it first, or let it finish: the same command without --more-epochs.",
        )
    recipe = loaded.recipe
    train = recipe.train.model_copy(
        update={
            "num_train_epochs": epochs,
            "max_steps": None,
            "learning_rate": result["learning_rate"],
            "init_from": str(folder.resolve()),
        }
    )
    place = folder.with_name(f"{folder.name}-more{epochs:g}")
    output = recipe.output.model_copy(update={"dir": str(place)})
    return replace(loaded, recipe=recipe.model_copy(update={"train": train, "output": output}))


def init_note(recipe: Recipe) -> str | None:
    """A line on what train.init_from starts a run from; None if it starts from a new adapter."""
    train = recipe.train
    if train.init_from is None:
        return None
    rate = train.learning_rate if isinstance(train.learning_rate, str) else f"{train.learning_rate:g}"
    return (
        f"Starting from the best evaluation of {train.init_from}, which stays as it is: new optimiser state, and a new "
        f"{train.lr_scheduler_type} schedule from learning rate {rate} over {_length(recipe)}."
    )


def _length(recipe: Recipe) -> str:
    """The length of a run that starts from another one."""
    steps, epochs = recipe.train.max_steps, recipe.train.num_train_epochs
    return number_of(steps, "step") if steps is not None else f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def require_init_from(loaded: LoadedRecipe) -> None:
    """Check that the run of `train.init_from` exists and fits the recipe, as far as that is quick.

    Raises:
        UserError: it does not exist or is unfinished, or has another method, other options or another base.
    """
    name, recipe = loaded.recipe.train.init_from, loaded.recipe
    if name is None or _resumes(loaded):
        return
    if expand_user(name).resolve() == loaded.run_folder.resolve():
        raise loaded.refuse(_KEY, f"{name} is this run's own folder; choose another output.dir")
    adapter = init_adapter(name)
    files = read_trained_files(adapter)
    if files.method != recipe.method:
        raise loaded.refuse(_KEY, f"{name} was trained by method {files.method}, not {recipe.method}")
    if files.base_model_name_or_path != recipe.model.name_or_path:
        where = f"{files.base_model_name_or_path}, not on {recipe.model.name_or_path}"
        raise loaded.refuse(_KEY, f"{name} was trained on the base {where}")
    before, now = _options(init_description(adapter)), {} if recipe.options is None else recipe.options.model_dump()
    for option in sorted((before.keys() | now.keys()) - _SELECTORS - _FREE):
        if before.get(option) != now.get(option):
            change = f"{recipe.method}.{option} {before.get(option)}, not {now.get(option)}"
            raise loaded.refuse(_KEY, f"{name} was trained with {change}")


def _resumes(loaded: LoadedRecipe) -> bool:
    """Whether the run resumes from a checkpoint, so that it needs no other run to start from."""
    named = isinstance(loaded.recipe.train.resume_from_checkpoint, str)
    return named or bool(list_checkpoints(RunFolder(loaded.run_folder).checkpoints))


def init_adapter(name: str) -> Path:
    """The folder of the trained parameters of a finished run or an adapter that `train.init_from` names.

    Raises:
        UserError: it is neither, or the run is not finished.
    """
    path = expand_user(name)
    kind = folder_kind(path)
    if kind == "adapter":
        return path
    if kind != "run":
        error = not_trained(path)
        raise UserError(error.code, f"train.init_from: {error.message}", hint="Name a finished run, or an adapter.")
    folder = RunFolder(path)
    if not folder.finished:
        raise UserError(
            "run-unfinished",
            f"train.init_from: {path} is not finished",
            hint=f"Let it finish first. To start from its best evaluation so far: train.init_from={folder.adapter}",
        )
    return folder.adapter


def init_description(adapter: Path) -> AdapterConfig | TrainedConfig:
    """The description of the trained parameters that a run starts from."""
    return read_trained_config(adapter) if (adapter / TRAINED_FILE).is_file() else read_adapter_config(adapter)


def _options(description: AdapterConfig | TrainedConfig) -> dict[str, Any]:
    """The options of the method of a run to start from, with defaults."""
    return description.red.model_dump() if isinstance(description, AdapterConfig) else description.options
