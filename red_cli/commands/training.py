"""The commands train, compare and check."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from red_cli import check_screen, console
from red_cli import plan_and_result_tables as tables
from red_cli.commands.data_file import confirm_training, data_file_of, recipe_of_data_file, refuse_data_file
from red_cli.commands.options import Json, Overrides, RecipeArgument, RecipeOrFile, Seeds, Together, Variant
from red_cli.commands.processes import started_elsewhere
from red_cli.errors import UserError
from red_cli.finding_tables import class_tables, finding_rows
from red_cli.plan_tables import devices_columns
from red_cli.progress import Terminal

if TYPE_CHECKING:
    from red_cli.recipe.load import LoadedRecipe
    from red_cli.recipe.schema import Recipe

_IN_A_PLAN = ("task", "classes", "validation", "base")  # of what is guessed from a data file
_METHODS = "{methods}"  # replaced by their names when help is shown


def train(
    recipe: RecipeOrFile,
    overrides: Overrides = None,
    variant: Variant = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the run folder's last checkpoint.")] = False,
    seeds: Seeds = None,
    together: Together = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With a data file: train without a question.")] = False,
    more_epochs: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Train the finished run N epochs further, in a new folder, RUN-moreN; with --seeds that of each seed.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Train a recipe or a data file and write a run folder, or one for each seed."""
    from red_cli.distributed.worker_process import is_main, silence_worker
    from red_cli.recipe.load import load_recipe

    silence_worker()
    data_file = data_file_of(recipe)
    if data_file is not None:
        recipe = recipe_of_data_file(data_file, overrides or [], variant, json, left_to_plan=_IN_A_PLAN if yes else ())
    changes = [*(overrides or []), *(["train.resume_from_checkpoint=true"] if resume else [])]
    loaded = load_recipe(recipe, variant, changes)
    from red_cli.runs.preflight import preflight_training
    from red_cli.train.init_from import require_init_from, with_more_epochs
    from red_cli.train.resume import require_new_or_resumable_folder

    if more_epochs is not None:
        _require_epochs(more_epochs)
        loaded = loaded if seeds is not None else with_more_epochs(loaded, more_epochs)
    if seeds is None and (result := _finished_before(loaded)) is not None:
        console.print_text(f"{result['folder']} is finished already; nothing is trained.", stderr=True)
        _show_result(result, loaded.recipe, json)
        return
    _require_together(loaded, seeds, together)
    preflight_training(loaded.recipe)
    if seeds is None and is_main() and loaded.recipe.launch.machine_rank == 0:
        require_new_or_resumable_folder(loaded)
        require_init_from(loaded)
    if data_file is not None and not confirm_training(recipe, yes, json):
        return
    if not together and started_elsewhere(loaded.recipe.launch, json):
        return
    if seeds is not None:
        _train_seeds(recipe, overrides or [], variant, seeds, more_epochs, together, json)
        return
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        console.silence_libraries()
        from red_cli.train.loop import train as run_training

        result = run_training(loaded, terminal)
    _show_result(result, loaded.recipe, json)


def _require_together(loaded: LoadedRecipe, seeds: str | None, together: bool) -> None:
    """Check that the runs of the option --together can share a base and a process."""
    if not together:
        return
    from red_cli.compare.together import require_together

    if seeds is None:
        raise UserError("invalid-option", "--together is for several runs", hint="Give their seeds: --seeds 42-49")
    require_together({"the recipe": loaded.recipe})


def _require_epochs(epochs: float) -> None:
    """Check the number of the option --more-epochs."""
    if not (math.isfinite(epochs) and epochs > 0):
        raise UserError("invalid-option", f"--more-epochs {epochs:g} is not a number of epochs above 0")


def _finished_before(loaded: LoadedRecipe) -> dict[str, Any] | None:
    """The result that the command train prints if the run is finished; its base and data may be gone by now."""
    from red_cli.runs.preflight import preflight_training
    from red_cli.train.resume import finished_result

    try:
        return finished_result(loaded)
    except UserError:
        preflight_training(loaded.recipe)  # a mistyped path is named first, and not as another recipe
        raise


def _show_result(result: dict[str, Any], recipe: Recipe, json: bool) -> None:
    """Show the result of a finished training, and what to do next."""
    from red_cli.distributed.worker_process import is_main

    if not is_main():
        return
    if json:
        console.print_json(result)
        return
    console.print_text()
    console.print_lines(tables.result_rows(result))
    console.print_parts(class_tables(result, console.width()), finding_rows(result))
    from red_cli.export.next_steps import suggestions

    console.next_commands(*suggestions(Path(result["folder"]), recipe))


def _train_seeds(
    recipe: str,
    overrides: list[str],
    variant: str | None,
    seeds: str,
    more_epochs: float | None,
    together: bool,
    json: bool,
) -> None:
    """Train one run for each seed of the option --seeds; print the scores over the seeds."""
    from red_cli.compare.seeds import load_seeds, parse_seeds
    from red_cli.distributed.worker_process import is_main
    from red_cli.train.init_from import with_more_epochs

    runs = load_seeds(recipe, variant, overrides, parse_seeds(seeds))
    if more_epochs is not None:
        runs = [with_more_epochs(loaded, more_epochs) for loaded in runs]
    with Terminal(json_output=True) as terminal:  # the plans of the runs are not the result
        terminal.status("starting")
        console.silence_libraries()
        from red_cli.compare.seeds import train_seeds, train_seeds_together

        result = (train_seeds_together if together else train_seeds)(runs, terminal)
    if not is_main():
        return
    if json:
        console.print_json(result)
        return
    console.print_text()
    console.print_lines(tables.seeds_rows(result))


class NamesMethods(TyperCommand):
    """The class of `red compare`: its help names the methods, imported only when it is shown, since that is slow."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from red_cli.recipe.methods import compared_methods

        for option in self.params:
            if getattr(option, "help", None):
                option.help = option.help.replace(_METHODS, ", ".join(["none", *compared_methods()]))  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def compare(
    recipe: RecipeArgument,
    methods: Annotated[
        str | None, typer.Option(help=f"Methods to compare: {_METHODS}. Default with --grid: the recipe's own.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[[METHOD:]KEY=VALUE]...",
            help="Recipe keys to set for all methods or for one, e.g. lora:train.learning_rate=2e-3",
        ),
    ] = None,
    variant: Variant = None,
    seeds: Seeds = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[METHOD:]KEY=VALUE,VALUE",
            help="Try each value of a recipe key; given several times, every combination. The selection split chooses "
            "the best.",
        ),
    ] = None,
    together: Together = False,
    json: Json = False,
) -> None:
    """Train a recipe by several methods and compare them; given again, the command resumes."""
    from red_cli.errors import RunFailed
    from red_cli.recipe.bundled_recipes import find_recipe

    refuse_data_file(recipe, "red compare")
    find_recipe(recipe)
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        from red_cli.compare.comparison import compare as run_comparison
        from red_cli.compare.comparison import parse_methods, plan_comparison
        from red_cli.compare.comparison_table import notes_of, tables_of
        from red_cli.compare.seeds import parse_seeds

        numbers = None if seeds is None else parse_seeds(seeds)
        names = None if methods is None else parse_methods(methods)
        comparison = plan_comparison(recipe, variant, overrides or [], names, numbers, grid or [])
        trainer = None
        if together:
            from red_cli.compare.comparison_together import TrainsTogether

            trainer = TrainsTogether(comparison, terminal)
        console.silence_libraries()
        result = run_comparison(comparison, terminal, ["red", *sys.argv[1:]], trainer)
    if json:
        console.print_json(result)
    elif result["rows"]:
        console.print_text()
        for rows in tables_of(result):
            console.print_columns(rows)
            console.print_text()
        for note in notes_of(result):
            console.print_text(note)
        console.print_text(f"Also in {result['folder']}/comparison.md")
    if result["failed"]:
        failed = ", ".join(f"{run['name']} with seed {run['seed']}" for run in result["failed"])
        raise RunFailed("run-failed", f"failed: {failed}", hint="The same command tries them again.")


def check(
    recipe: RecipeOrFile,
    overrides: Overrides = None,
    variant: Variant = None,
    device_memory: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="GIB", help="Memory of each device to plan for; default: that of this machine."),
    ] = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the whole recipe first, with every default.")] = False,
    json: Json = False,
) -> None:
    """Check a recipe or a data file: the plan of its training, its classes and some rows, on one screen."""
    from red_cli.recipe.load import load_recipe
    from red_cli.recipe.schema import resolved
    from red_cli.recipe.yaml_file import dump

    if device_memory is not None and not math.isfinite(device_memory):
        raise UserError("invalid-option", f"--device-memory {device_memory} is not a finite number of GiB")
    if (data_file := data_file_of(recipe)) is not None:
        recipe = recipe_of_data_file(data_file, overrides or [], variant, json, left_to_plan=_IN_A_PLAN)
    loaded = load_recipe(recipe, variant, overrides or [])
    from red_cli.runs.preflight import preflight

    preflight(loaded.recipe)
    with Terminal(json_output=json) as terminal:
        terminal.status("reading the data")
        console.silence_libraries()
        from red_cli.distributed.device import chosen_device, has_accelerator
        from red_cli.distributed.device import device_memory as memory_of
        from red_cli.plan.data_summary import summarise_data
        from red_cli.plan.devices import device_options
        from red_cli.plan.host_memory import planned_processes
        from red_cli.plan.plan import make_plan
        from red_cli.plan.prepare import prepare

        prepared = prepare(loaded.recipe)
        started = planned_processes(loaded.recipe.launch)
        plan, data = make_plan(loaded, prepared, started=started).summary, summarise_data(prepared)
        device_bytes = memory_of(chosen_device(), 1) if device_memory is None else int(device_memory * 2**30)
        devices = device_options(plan, loaded.recipe, device_bytes)
    if json:
        console.print_json(
            {
                "recipe": resolved(loaded.recipe),
                "plan": plan.to_json(),
                "data": data.to_json(),
                "run_folder": str(loaded.run_folder),
                "device_memory_bytes": device_bytes,
                "devices": [fit.to_json() for fit in devices],
            }
        )
        return
    if yaml:
        console.print_text(dump(resolved(loaded.recipe)))
    width = console.width()
    console.print_lines(check_screen.check_rows(plan, data, str(loaded.run_folder), width))
    console.print_text()
    console.print_dimmed(check_screen.example_lines(plan, data, width))
    if devices and (device_memory is not None or has_accelerator()):
        console.print_text(f"\nOn devices of {device_bytes / 2**30:.1f} GiB, {devices[0].rows} rows at once on each:")
        console.print_columns(devices_columns(devices))
