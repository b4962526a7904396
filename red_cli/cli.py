"""The commands: parse, call, show. Heavy imports live inside the functions, so that help answers at once."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from red_cli import console
from red_cli.errors import RedError, from_os_error, out_of_space

_INTERRUPTED = 130

app = typer.Typer(
    name="red",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune transformers by Representation EDiting: two learned vectors after each edited module.",
    epilog="A first run, with nothing to download: red train quickstart",
)
recipes_app = typer.Typer(help="The recipes that come along.", invoke_without_command=True)
app.add_typer(recipes_app, name="recipes")

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or the path of a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to set, e.g. train.seed=43")
]
Variant = Annotated[str | None, typer.Option("--variant", "-v", help="A variant that the recipe names.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, all else on standard error.")]
TargetArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder, an adapter folder, or an exported model.")
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="The recipe, for an adapter that comes without one.")
]


@app.command()
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
    console.print_lines(console.result_rows(result))
    folder = shlex.quote(result["folder"])
    console.next_commands(f"red eval {folder}", f"red export {folder} --output {folder}/merged")


@app.command()
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
    console.print_lines(console.plan_rows(plan, str(loaded.run_folder)))
    console.print_text()
    console.print_examples(plan)


@app.command(name="eval")
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
        console.print_lines(console.evaluation_rows(result))


@app.command()
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
    console.print_lines(console.export_rows(result))
    console.next_commands(f"red eval {shlex.quote(str(output))}")


@app.command()
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
        console.print_lines(console.conversion_rows(result))


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes where no other command is given."""
    if context.invoked_subcommand is None:
        list_recipes()


@recipes_app.command("list")
def list_recipes(json: Json = False) -> None:
    """Names, what they are for, and their variants."""
    from red_cli.recipe.find import recipe_folder, recipe_names, recipe_title
    from red_cli.recipe.load import variants_of

    titles = {name: recipe_title(recipe_folder() / f"{name}.yaml") for name in recipe_names()}
    if json:
        files = {name: recipe_folder() / f"{name}.yaml" for name in titles}
        listed = [{"name": name, "title": titles[name], "variants": variants_of(path)} for name, path in files.items()]
        console.print_json({"recipes": listed})
        return
    console.print_lines(titles.items())
    console.next_commands("red recipes show NAME", "red recipes copy NAME")


@recipes_app.command("show")
def show_recipe(name: RecipeArgument, variant: Variant = None, json: Json = False) -> None:
    """A recipe's text with its comments; with --json or --variant, resolved."""
    from red_cli.recipe.find import find_recipe
    from red_cli.recipe.load import load_recipe
    from red_cli.recipe.schema import resolved
    from red_cli.recipe.yaml_file import dump

    path = find_recipe(name)
    if not json and variant is None:
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
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to; default: here.")] = Path(),
) -> None:
    """Copy a recipe, to change it."""
    from red_cli.recipe.find import copy_recipe

    for path in copy_recipe(name, folder):
        console.print_text(str(path))


@app.command()
def schema() -> None:
    """The JSON schema of recipes, for editors."""
    from red_cli.recipe.schema import RecipeFile

    console.print_json(RecipeFile.model_json_schema())


def _show_version(wanted: bool) -> None:
    if wanted:
        from red_cli import __version__

        console.print_text(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Options of `red` itself."""


def main() -> None:
    """Run the command line; every fault of the user's is one message and an exit code."""
    console.tolerate_any_encoding()
    try:
        app()
    except RedError as error:
        _fail(error)
    except SystemExit as exit_:
        if exit_.code == _INTERRUPTED:
            console.print_text("interrupted", stderr=True)
        raise
    except BrokenPipeError:
        console.stdout_is_closed()
        sys.exit(1)
    except BaseException as error:
        if _interrupted(error):
            console.print_text("interrupted", stderr=True)
            sys.exit(_INTERRUPTED)
        if full := out_of_space(error):
            _fail(full)
        if isinstance(error, OSError):
            _fail(from_os_error(error))
        if os.environ.get("RED_DEBUG"):
            raise
        _fail(RedError(f"{type(error).__name__}: {error}", hint="RED_DEBUG=1 shows where."))


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what an error comes from, however it was wrapped."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fail(error: RedError) -> NoReturn:
    if os.environ.get("RED_DEBUG"):
        traceback.print_exception(error)
    console.print_error(error)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
