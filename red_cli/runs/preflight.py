"""Quick checks before any work. They run before torch and transformers are imported."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from red_cli.base_model.hub import require_model_folder
from red_cli.distributed.accelerate_settings import require_settings_for_training
from red_cli.distributed.deepspeed_config import require_deepspeed
from red_cli.errors import UserError, did_you_mean, one_line
from red_cli.recipe.chosen_metrics import text_metrics
from red_cli.recipe.methods import require_method_package
from red_cli.recipe.schema import Recipe
from red_cli.runs.folder import RunFolder
from red_cli.runs.open_trained import Opened
from red_cli.tasks.data.file_columns import require_columns
from red_cli.tasks.data.split_files import require_file, split_files
from red_cli.tasks.data.splits import require_splits
from red_cli.tasks.text_metrics.score import require_metrics


def preflight(recipe: Recipe) -> None:
    """Check that the base, the data and the packages of a recipe exist, as far as that is quick.

    Raises:
        UserError: one of them is missing.
    """
    require_model_folder(recipe.model.name_or_path)
    _require_data(recipe)
    require_method_package(recipe.method)
    require_metrics(text_metrics(recipe), recipe.eval.metric)
    _require_trackers(recipe.train.report_to)
    if recipe.train.compile:
        _require_compiler()


def preflight_training(recipe: Recipe) -> None:
    """Run the checks of `preflight`, and check the strategy of the recipe and the settings of Accelerate.

    Raises:
        UserError: something is missing, or Accelerate's settings contradict the recipe.
    """
    require_settings_for_training(recipe)
    require_deepspeed(recipe.launch, recipe.train)
    preflight(recipe)


def preflight_evaluation(opened: Opened, split: str | None, output: Path) -> None:
    """Check that a trained model can be evaluated on `split`, and that results can be written to `output`.

    Raises:
        UserError: its base, the split, a package of a metric, or the folder cannot be used.
    """
    folder = RunFolder(output)
    folder.require_own_folders()
    folder.read_metrics()
    require_metrics(text_metrics(opened.recipe))
    require_model_folder(opened.recipe.model.name_or_path)
    _require_evaluated(opened.recipe, split)


def _require_data(recipe: Recipe) -> None:
    """The quick check of a user's local files before a training; of published sets, only of the path."""
    data, task = recipe.data, recipe.task
    for split in ("train", "validation", "test"):
        require_file(data, split)
    files = _local_files(recipe)
    if files is not None:
        needed = ("train", *(task.validation_splits[:1] if recipe.eval.split == "paper" else task.validation_splits))
        require_splits(files, data, needed)
        columns = [*task.input_columns(data.columns), *task.answer_columns(data.columns)]
        for split in needed:
            require_columns(files.get(split, []), data, columns)


def _require_evaluated(recipe: Recipe, split: str | None) -> None:
    """Quick check before an evaluation: local files have the split and its text columns; labels are optional."""
    files = _local_files(recipe)
    if files is None or recipe.eval.split != "standard":
        return
    if split is not None:
        require_splits(files, recipe.data, (split,))
        require_file(recipe.data, split)
        require_columns(files.get(split, []), recipe.data, recipe.task.input_columns(recipe.data.columns))


def _local_files(recipe: Recipe) -> dict[str, list[Path]] | None:
    """The files that quick checks look at, by split; None for the Hub and for a published set's own layout.

    Raises:
        UserError: a path that the recipe names does not exist.
    """
    data, task = recipe.data, recipe.task
    places = [place for place in (data.path, data.train, data.validation, data.test) if place is not None]
    if (data.path is None and data.train is None) or (task.has_own_layout and all(map(_exists, places))):
        return None
    try:
        files = split_files(data)
    except UserError as error:
        raise UserError(error.code, error.message, hint=error.hint or task.source_hint) from None
    return None if task.has_own_layout else files


def _exists(place: str) -> bool:
    """Whether a place that the recipe names exists, for checks before any work; an invalid path does not."""
    try:
        return Path(place).exists()
    except (OSError, ValueError):  # too long, or not a valid path
        return False


def _require_trackers(names: Sequence[str]) -> None:
    """Check that Accelerate has every tracker and that its package is installed.

    Raises:
        UserError: a tracker is unknown or not installed.
    """
    if not names:
        return
    from accelerate.utils import LoggerType

    known = [member.value for member in LoggerType if member.value != "all"]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) + f"Known: {', '.join(known)}"
            raise UserError("unknown-name", f"train.report_to: no such tracker: {one_line(name)}", hint=hint)
        if importlib.util.find_spec(name) is None:
            extra = "'red-finetune[track]'" if name == "tensorboard" else name
            raise UserError(
                "missing-dependency",
                f"train.report_to: {name} is not installed",
                hint=f"Install it: pip install {extra}",
            )


def _require_compiler() -> None:
    """Quick check before layers are compiled: torch finds a C++ compiler and the headers of Python.

    Raises:
        UserError: it does not.
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    program = os.environ.get("CXX", usual)  # as torch reads it: a name without options, and not empty
    compiler = f"there is no {one_line(program)}" if program.strip() else "the variable CXX is empty"
    header = Path(sysconfig.get_path("include"), "Python.h")
    for found, missing, package in (
        (shutil.which(program), f"a C++ compiler, and {compiler}", usual),
        (header.is_file(), f"the headers of Python, and there is no {header}", "python3-dev"),
    ):
        if not found:
            raise UserError(
                "missing-dependency",
                f"train.compile needs {missing}",
                hint=f"Install {package}, or drop train.compile. CXX, if set, is the name of one, without options.",
            )
