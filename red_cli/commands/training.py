"""Commands over recipes: train, check."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from red_cli import console, tables
from red_cli.commands.options import Json, Overrides, RecipeArgument, Variant


def train(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    variant: Variant = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")] = False,
    json: Json = False,
) -> None:
    """Train a recipe; the result is a run folder."""
    from red_cli.recipe.load import load_recipe

    changes = [*(overrides or []), *(["train.resume_from_checkpoint=true"] if resume else [])]
    loaded = load_recipe(recipe, variant, changes)
    with console.Terminal(json_output=json) as terminal:
        terminal.working("starting")
        console.hush()
        from red_cli.run.train import train as run_training

        result = run_training(loaded, terminal)
    if json:
        console.print_json(result)
        return
    console.print_text()
    console.print_lines(tables.result_rows(result))
    folder = shlex.quote(result["folder"])
    console.next_commands(f"red eval {folder}", f"red export {folder} --output {folder}/merged")


def check(recipe: RecipeArgument, overrides: Overrides = None, variant: Variant = None, json: Json = False) -> None:
    """Show what a recipe will do, and train nothing; the base's weights are not needed."""
    from red_cli.recipe.load import load_recipe
    from red_cli.recipe.schema import resolved
    from red_cli.recipe.yaml_file import dump

    loaded = load_recipe(recipe, variant, overrides or [])
    with console.Terminal(json_output=json) as terminal:
        terminal.working("reading the data")
        console.hush()
        from red_cli.run.plan import make_plan, prepare
        from red_cli.run.trackers import require_trackers

        require_trackers(loaded.recipe.train.report_to)
        plan = make_plan(loaded, prepare(loaded.recipe))
    if json:
        console.print_json(
            {"recipe": resolved(loaded.recipe), "plan": plan.to_json(), "run_folder": str(loaded.run_folder)}
        )
        return
    console.print_text(dump(resolved(loaded.recipe)))
    console.print_lines(tables.plan_rows(plan, str(loaded.run_folder)))
    console.print_text()
    console.print_examples(plan)
