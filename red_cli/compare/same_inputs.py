"""Check that compared runs were trained on the same rows and base, even if files changed between them."""

from __future__ import annotations

from collections.abc import Sequence

from red_cli.edit.recorded_base import BaseDigest
from red_cli.errors import UserError
from red_cli.recipe.keys_by_role import values_of
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.roles import ROWS
from red_cli.recipe.schema import Recipe
from red_cli.runs.folder import RunFolder
from red_cli.runs.inputs import RunInputs, changed_base, changed_rows, drawn_by_seed, parse_inputs


def require_same_inputs(runs: Sequence[LoadedRecipe]) -> None:
    """Check that finished runs were trained on the same rows and the same base.

    Only inputs that two recipes share are compared. Runs of version 0.1 do not record their inputs.

    Raises:
        UserError: two runs differ; the message names them and what differs.
    """
    recorded: list[tuple[LoadedRecipe, RunInputs]] = []
    for loaded in runs:
        inputs = RunFolder(loaded.run_folder).read_results().get("inputs")
        if inputs is None:
            continue
        own = parse_inputs(inputs)
        for other, theirs in recorded:
            if lines := _differences(other.recipe, theirs, loaded.recipe, own):
                listed = "\n".join(f"  {line}" for line in lines)
                raise UserError(
                    "inputs-changed",
                    f"{other.run_folder} and {loaded.run_folder} were trained on different inputs:\n{listed}",
                    hint="Delete the run with the wrong inputs, and give the same command again.",
                )
        recorded.append((loaded, own))


def _differences(recipe: Recipe, theirs: RunInputs, other: Recipe, own: RunInputs) -> list[str]:
    """Describe how the base or the rows of two compared runs differ, where their recipes name the same."""
    lines = []
    if (recipe.model.name_or_path, recipe.model.revision) == (other.model.name_or_path, other.model.revision):
        lines += changed_base(_without_edited_modules(theirs.base), _without_edited_modules(own.base))
    same_seed = recipe.train.seed == other.train.seed
    if values_of(recipe, ROWS) == values_of(other, ROWS) and (same_seed or not drawn_by_seed(recipe)):
        lines += changed_rows(theirs, own)
    return lines


def _without_edited_modules(base: BaseDigest | None) -> BaseDigest | None:
    """The digest without that of the edited modules, which differ between methods."""
    return None if base is None else base.model_copy(update={"tensors": None})
