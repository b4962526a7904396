"""Arguments and options of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from red_cli.runs.opened import Opened

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or the path of a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to set, e.g. train.seed=43")
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
    Path, typer.Argument(metavar="RUN", help="A run folder, an adapter folder, or an exported model.")
]
RecipeOption = Annotated[str | None, typer.Option("--recipe", help="The recipe, for an adapter without one.")]


def open_target(target: Path, recipe: str | None, overrides: list[str]) -> Opened:
    """Open the trained model that the target argument and the options name.

    Raises:
        UserError: `target` is not a trained model. Nothing slow is imported before this check.
    """
    from red_cli.runs.folder_kind import require_kind

    require_kind(target, recipe)
    from red_cli.runs.opened import open_for_inference

    return open_for_inference(target, recipe, overrides)
