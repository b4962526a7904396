"""The commands recipes (list, show, copy) and schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from red_cli import console
from red_cli.commands.data_file import refuse_data_file
from red_cli.commands.options import Json, RecipeArgument, Variant
from red_cli.commands.usage_errors import Group

recipes_app = typer.Typer(cls=Group, help="The bundled recipes.", invoke_without_command=True)


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes if no other command is given."""
    if context.invoked_subcommand is None:
        list_recipes()


@recipes_app.command("list")
def list_recipes(json: Json = False) -> None:
    """List the bundled recipes with their titles; with --json also their variants."""
    from red_cli.recipe.bundled_recipes import recipe_folder, recipe_names, recipe_title
    from red_cli.recipe.load import loadable_variants

    titles = {name: recipe_title(recipe_folder() / f"{name}.yaml") for name in recipe_names()}
    if json:
        files = {name: recipe_folder() / f"{name}.yaml" for name in titles}
        listed = [
            {"name": name, "title": titles[name], "variants": loadable_variants(path)} for name, path in files.items()
        ]
        console.print_json({"recipes": listed})
        return
    console.print_lines(titles.items())
    console.next_commands("red recipes show NAME", "red recipes copy NAME")


@recipes_app.command("show")
def show_recipe(name: RecipeArgument, variant: Variant = None, json: Json = False) -> None:
    """Show a recipe's text with its comments; with --json or --variant, resolved."""
    from red_cli.recipe.bundled_recipes import find_recipe
    from red_cli.recipe.load import load_recipe
    from red_cli.recipe.schema import resolved
    from red_cli.recipe.sources import read_sources
    from red_cli.recipe.yaml_file import dump

    refuse_data_file(name, "red recipes show")
    path = find_recipe(name)
    if not json and variant is None:
        read_sources(path)  # raises if the file is not a recipe
        console.print_text(path.read_text(encoding="utf-8").rstrip())
        return
    data = resolved(load_recipe(name, variant).recipe)
    if json:
        console.print_json(data)
    else:
        console.print_text(dump(data).rstrip())


@recipes_app.command("copy")
def copy(
    name: RecipeArgument,
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="The folder; default: the current one.")] = Path(),
) -> None:
    """Copy a recipe to change it."""
    from red_cli.recipe.copying import copy_recipe

    refuse_data_file(name, "red recipes copy")
    for path in copy_recipe(name, folder):
        console.print_text(str(path))


def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from red_cli.recipe.schema import json_schema

    console.print_json(json_schema())
