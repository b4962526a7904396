"""Data files as the argument of train and check: their recipe is guessed, shown and written."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Container, Sequence
from pathlib import Path

from red_cli import console
from red_cli.check_screen import wrapped_rows
from red_cli.errors import UserError, did_you_mean
from red_cli.files import expand_user
from red_cli.progress import Terminal


def data_file_of(argument: str) -> Path | None:
    """The data file that an argument names, or the training file of the folder that it names; None for a recipe."""
    from red_cli.guess.siblings import training_file_of
    from red_cli.tasks.data.split_files import is_data_file

    path = expand_user(argument)
    try:
        if path.is_dir():
            return None if (path / "recipe.yaml").is_file() else training_file_of(path)
        return path if is_data_file(path) else None
    except (OSError, ValueError):  # too long, or not a valid path; as a recipe it is not found
        return None


def refuse_data_file(argument: str, command: str) -> None:
    """Refuse a data file, or a folder of them, where a command takes a recipe alone.

    Raises:
        UserError: it is one; the hint says how it gets a recipe, or names the one next to it.
    """
    path = data_file_of(argument)
    if path is None or not path.is_file():
        return
    from red_cli.guess.siblings import split_files_around

    recipe = split_files_around(path).recipe()
    then = f"{command} {shlex.quote(str(recipe))}"
    train = shlex.join(["red", "train", argument])
    raise UserError(
        "recipe-not-found",
        f"{argument} is {'a data file' if expand_user(argument) == path else 'a folder of data'}, not a recipe",
        hint=f"Its recipe:  {then}" if recipe.is_file() else f"{train} writes its recipe; then:  {then}",
    )


def recipe_of_data_file(
    path: Path, overrides: Sequence[str], variant: str | None, json: bool, left_to_plan: Container[str] = ()
) -> str:
    """The recipe of a data file, which is written next to it if there is none; what was guessed is shown.

    Args:
        left_to_plan: labels of lines that a plan on the same screen shows.

    Raises:
        UserError: the file does not exist or cannot be read, or its recipe cannot be guessed.
    """
    from red_cli.distributed.worker_process import is_main, started_by_red
    from red_cli.tasks.data.split_files import is_data_file

    if not path.is_file():
        near = [other.name for other in path.parent.glob("*") if is_data_file(other)]
        hint = did_you_mean(path.name, near) or "A path starts at the working directory, or names its folders in full."
        raise UserError("file-not-found", f"no such file: {path}", hint=hint.strip())
    if variant is not None:
        raise UserError("invalid-option", "--variant is for recipes; a data file has none", hint="Leave it out.")
    with Terminal(json_output=json) as terminal:
        terminal.status(f"reading {path.name}")
        from red_cli.guess.recipe_file import recipe_of_file

        found = recipe_of_file(path, overrides)
    if is_main() and not started_by_red():  # the process that starts others shows it
        lines = [line for line in found.lines if line[0] not in left_to_plan]
        console.print_lines(wrapped_rows(lines, console.width()), stderr=json)
        console.print_text(stderr=json)
    return str(found.path)


def confirm_training(recipe: str, yes: bool, json: bool) -> bool:
    """Whether to train with the recipe of a data file now: by --yes, or by the answer on a terminal.

    Raises:
        UserError: there is neither --yes nor a terminal.
    """
    from red_cli.distributed.worker_process import is_worker

    if yes or is_worker():
        return True
    if json or not (console.is_typed() and sys.stdout.isatty()):
        again = shlex.join(["red", *sys.argv[1:], "--yes"])
        raise UserError(
            "not-confirmed", f"nothing is trained yet; the recipe is {recipe}", hint=f"Train with it: {again}"
        )
    if console.confirm("Train with this recipe now?"):
        return True
    console.next_commands(f"red check {shlex.quote(recipe)}", shlex.join(["red", *sys.argv[1:]]))
    return False
