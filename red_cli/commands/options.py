"""Arguments and options of commands: those of several, and the choices of an option."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from red_cli import console
from red_cli.commands.completion import complete_override, complete_recipe, complete_run
from red_cli.errors import UserError, one_line
from red_cli.recipe.variables import VariableError, expanded_path

if TYPE_CHECKING:
    from red_cli.runs.opened import Opened


class FormatOption(str, Enum):
    """The form of an export."""

    merged = "merged"
    adapter = "adapter"
    code = "code"
    gguf = "gguf"


class TargetOption(str, Enum):
    """What will run an exported model."""

    transformers = "transformers"
    vllm = "vllm"
    llama_cpp = "llama.cpp"


class DtypeOption(str, Enum):
    """The dtype of exported weights."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe's name, or the path of a YAML file.", autocompletion=complete_recipe
    ),
]
RecipeOrFile = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|FILE",
        help="A recipe's name, the path of a YAML file, or a data file (.csv .tsv .jsonl .json .parquet .xlsx, also "
        ".gz), whose recipe is guessed, shown and written next to it.",
        autocompletion=complete_recipe,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Recipe keys to set, e.g. train.seed=43", autocompletion=complete_override
    ),
]
Variant = Annotated[str | None, typer.Option("--variant", "-v", help="A variant of the recipe.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, all else on standard error.")
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="N,N-N", help="Train under each of these seeds, such as 42-46, one after another."),
]
TargetArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run folder, an adapter folder, or an exported model.", autocompletion=complete_run
    ),
]
RecipeOption = Annotated[str | None, typer.Option("--recipe", help="The recipe, for an adapter without one.")]


_MOST_MEANT = 3  # runs in a hint
_NAMES_OR_PATHS = ("recipe", "base", "template", "file")  # parameters whose text may be a path
_OVERRIDE = re.compile(r"[\w.]+=")  # in the place of a path; its key says whether variables are replaced


def with_expanded_paths(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose paths have `~` and environment variables replaced, also where no shell did so (`--output=~/x`).

    Raises:
        UserError: a variable is not set.
    """

    @functools.wraps(command)
    def run(*arguments: Any, **values: Any) -> None:
        command(*arguments, **{name: _expanded(name, value) for name, value in values.items()})

    return run


def _expanded(name: str, value: Any) -> Any:
    """The value of an argument or option of a command, with its paths expanded.

    Raises:
        UserError: a variable is not set.
    """
    if isinstance(value, list):
        return [_expanded(name, part) for part in value]
    text_of_path = name in _NAMES_OR_PATHS and isinstance(value, str) and not _OVERRIDE.match(value)
    if not isinstance(value, Path) and not text_of_path:
        return value
    try:
        return type(value)(expanded_path(str(value)))
    except VariableError as error:
        raise UserError("invalid-option", f"{one_line(str(value))}: {error}") from None


def trained_folder(target: Path, overrides: list[str] | None) -> tuple[Path, list[str]]:
    """The folder that an argument of several commands means, and the override options that remain.

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
    """The error for an argument of several commands that is no trained model; its hint names similar runs."""
    from red_cli.runs.run_of_recipe import similar_runs

    runs = similar_runs(path)
    meant = f"Did you mean {' or '.join(runs[:_MOST_MEANT])}? " if runs else ""
    return UserError(error.code, error.message, hint=f"{meant}{error.hint or ''}")


def require_trained(target: Path, recipe: str | None) -> None:
    """Check that the argument of several commands is a trained model. Nothing slow is imported.

    Raises:
        UserError: it is something else; the hint names runs with similar names.
    """
    from red_cli.runs.folder_kind import require_kind

    try:
        require_kind(target, recipe)
    except UserError as error:
        raise with_similar_runs(error, target) from None


def open_target(target: Path, recipe: str | None, overrides: list[str]) -> Opened:
    """Open the trained model that the arguments and options of several commands name.

    Raises:
        UserError: `target` is not a trained model. Nothing slow is imported before this check.
    """
    require_trained(target, recipe)
    from red_cli.runs.opened import open_for_inference

    return open_for_inference(target, recipe, overrides)
