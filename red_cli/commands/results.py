"""Commands over what was trained: eval, export, convert."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from red_cli import console, tables
from red_cli.commands.options import Json, Overrides, RecipeOption, TargetArgument


def evaluate(
    target: TargetArgument,
    overrides: Overrides = None,
    split: Annotated[str | None, typer.Option(help="Which split; default: test where it has labels.")] = None,
    recipe: RecipeOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where to write; default: the folder that is scored, or a new one inside it if keys are set."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score a run, an adapter or an exported model; writes metrics.json and predictions/."""
    with console.Terminal(json_output=json) as terminal:
        terminal.working("starting")
        console.hush()
        from red_cli.run.evaluate import evaluate as run_evaluation
        from red_cli.run.evaluate import evaluation_folder
        from red_cli.run.target import open_target

        opened = open_target(target, recipe, overrides or [])
        result = run_evaluation(opened, split, output or evaluation_folder(target, overrides or []), terminal)
    if json:
        console.print_json(result)
    else:
        console.print_lines(tables.evaluation_rows(result))


def export(
    target: TargetArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; new or empty.")],
    overrides: Overrides = None,
    recipe: RecipeOption = None,
    verify: Annotated[bool, typer.Option(help="Load the result and compare its logits with the adapter's.")] = True,
    json: Json = False,
) -> None:
    """Fold the edits into the weights: a model that plain transformers loads."""
    with console.Terminal(json_output=json) as terminal:
        terminal.working("starting")
        console.hush()
        from red_cli.run.export import export_merged
        from red_cli.run.target import open_target

        opened = open_target(target, recipe, overrides or [])
        result = export_merged(opened, output, verify, terminal)
    if json:
        console.print_json(result)
        return
    console.print_lines(tables.export_rows(result))
    console.next_commands(f"red eval {shlex.quote(str(output))}")


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A folder with delta_vector.pth, or that file.")],
    base: Annotated[str, typer.Option(help="The base it was trained on: a name on the Hub, or a model folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The adapter folder to write; new or empty.")],
    json: Json = False,
) -> None:
    """Turn a checkpoint of the paper's published code into an adapter."""
    with console.Terminal(json_output=json) as terminal:
        terminal.working("starting")
        console.hush()
        from red_cli.run.convert import convert as run_conversion

        result = run_conversion(checkpoint, base, output)
    if json:
        console.print_json(result)
    else:
        console.print_lines(tables.conversion_rows(result))
