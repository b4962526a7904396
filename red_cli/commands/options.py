"""Arguments and options that several commands have."""

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
Variant = Annotated[str | None, typer.Option("--variant", "-v", help="A variant that the recipe names.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, all else on standard error.")]
Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="N,N,...", help="Seeds to run under, one after the other.")
]
TargetArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, an adapter folder, or an exported model.")
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="The recipe, for an adapter that comes without one.")
]


def open_target(target: Path, recipe: str | None, overrides: list[str]) -> Opened:
    """The trained model that a command is pointed at.

    Raises:
        UserError: there is none; a folder that is something else is refused before anything slow is imported.
    """
    from red_cli.runs.folder_kind import require_kind

    require_kind(target, recipe)
    from red_cli.runs.opened import open_for_inference

    return open_for_inference(target, recipe, overrides)
