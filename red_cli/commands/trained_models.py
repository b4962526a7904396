"""The commands eval, export and convert."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from red_cli import console
from red_cli import plan_and_result_tables as tables
from red_cli.commands.completion import complete_run
from red_cli.commands.options import (
    DtypeOption,
    FormatOption,
    Json,
    Overrides,
    RecipeOption,
    TargetArgument,
    TargetOption,
)
from red_cli.commands.processes import require_predicting_processes, started_elsewhere
from red_cli.commands.run_argument import open_target, require_trained, trained_folder
from red_cli.errors import UserError
from red_cli.finding_tables import class_tables, finding_rows
from red_cli.progress import Terminal
from red_cli.signals import sigterm_as_interrupt


def evaluate(
    target: TargetArgument,
    overrides: Overrides = None,
    split: Annotated[str | None, typer.Option(help="The split; default: test if it has labels.")] = None,
    recipe: RecipeOption = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The folder to write; default: the scored folder, or a new one inside it if keys are set."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A benchmark: open-llm, alpaca-eval, mt-bench, or tasks of lm-evaluation-harness (A,B,...).",
        ),
    ] = None,
    questions: Annotated[Path | None, typer.Option(help="alpaca-eval, mt-bench: the file of questions.")] = None,
    template: Annotated[
        str | None, typer.Option(help="alpaca-eval, mt-bench: chat template; default: the training's, or own.")
    ] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Harness tasks: examples before each question.")] = None,
    tasks: Annotated[Path | None, typer.Option(help="Harness tasks: a folder that defines more tasks.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Only the first N rows, not kept as a score; --suite: N questions of a task.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score a run, an adapter or an exported model; writes metrics.json and predictions/."""
    from red_cli.distributed.worker_process import is_main, silence_worker

    silence_worker()
    target, overrides = trained_folder(target, overrides)
    asked = {"questions": questions, "template": template, "shots": shots, "tasks": tasks, "limit": limit}
    if suite is not None:
        if split is not None:
            raise UserError("invalid-option", "--split has no effect with --suite")
        evaluate_suite(target, overrides or [], recipe, output, {"suite": suite, **asked}, json)
        return
    if idle := [name for name, value in asked.items() if value is not None and name != "limit"]:
        raise UserError("invalid-option", f"--{idle[0]} goes with --suite")
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        opened = open_target(target, recipe, overrides or [])
        from red_cli.runs.folder import evaluation_folder
        from red_cli.runs.preflight import preflight_evaluation

        folder = output or evaluation_folder(target, overrides or [])
        preflight_evaluation(opened, split, folder)
        require_predicting_processes(opened.recipe.launch)
    if started_elsewhere(opened.recipe.launch, json):
        return
    with Terminal(json_output=json) as terminal, sigterm_as_interrupt():
        terminal.status("starting")
        console.silence_libraries()
        from red_cli.inference.evaluate import evaluate as run_evaluation

        result = run_evaluation(opened, split, folder, terminal, limit)
    if not is_main():
        return
    if json:
        console.print_json(result)
    else:
        from red_cli.plan_and_result_tables import commonsense_table

        console.print_lines(tables.evaluation_rows(result))
        console.print_parts(class_tables(result, console.width()), finding_rows(result))
        if parts := commonsense_table(result["scores"] or {}):
            console.print_text()
            console.print_columns(parts)
        from red_cli.export.next_steps import suggestions

        console.next_commands(*suggestions(target, opened.recipe if recipe is None else None, scored=True))


def export(
    target: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder or an adapter folder.", autocompletion=complete_run)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write, new or empty; or OUT.gguf.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[data.KEY=VALUE]...",
            help="The place of the data from which the check takes examples; model.trust_remote_code=true lets it run "
            "code of the base's tokenizer.",
        ),
    ] = None,
    recipe: RecipeOption = None,
    base: Annotated[
        str | None,
        typer.Option(help="The base, if not the one that the adapter records: a folder or a name on the Hub."),
    ] = None,
    form: Annotated[
        FormatOption,
        typer.Option(
            "--format",
            help="merged: ordinary weights; adapter: to share; code: own modelling file; gguf: for llama.cpp.",
        ),
    ] = FormatOption.merged,
    served_by: Annotated[
        TargetOption | None,
        typer.Option("--target", help="What will run the model: refuse an export of which it would drop biases."),
    ] = None,
    dtype: Annotated[DtypeOption | None, typer.Option(help="The dtype of the weights; default: the base's.")] = None,
    verify: Annotated[bool, typer.Option(help="Load the result and compare its logits with the adapter's.")] = True,
    push_to_hub: Annotated[str | None, typer.Option(metavar="USER/NAME", help="Upload it to the Hub, private.")] = None,
    json: Json = False,
) -> None:
    """Fold the edits into the weights to get a model that plain transformers loads."""
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        target, overrides = trained_folder(target, overrides)
        require_trained(target, recipe)
        from red_cli.base_model.hub import require_local_base
        from red_cli.export.export import export as run_export
        from red_cli.export.export import open_source

        source = open_source(target, recipe, base, overrides or [])
        if form is not FormatOption.adapter:
            require_local_base(source.base)
        compare = None
        if verify and form is not FormatOption.adapter:
            console.silence_libraries()
            from red_cli.export.verify import verify as run_verification

            compare = run_verification
        result = run_export(
            source, output, form.value, dtype and dtype.value, compare, push_to_hub, terminal,
            None if served_by is None else served_by.value,
        )  # fmt: skip
    if json:
        console.print_json(result)
        return
    console.print_lines(tables.export_rows(result))
    from red_cli.export.next_steps import suggestions

    console.next_commands(*suggestions(output, source.recipe))


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="A folder with delta_vector.pth, or that file; or a GGUF file, which becomes a base.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; new or empty.")],
    base: Annotated[
        str | None,
        typer.Option(help="The base a checkpoint was trained on: a name on the Hub, or a model folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Convert a checkpoint of the paper's published code to an adapter, or a GGUF file to a base."""
    from red_cli.base_model.gguf_files import is_gguf

    if is_gguf(str(checkpoint)):
        if base is not None:
            raise UserError("invalid-option", "--base has no effect on a GGUF file, which is a base itself")
        os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bar of tensors; read when tqdm is imported
        with Terminal(json_output=json) as terminal:
            terminal.status("converting")
            console.silence_libraries()
            from red_cli.base_model.gguf_files import convert_gguf

            result = convert_gguf(checkpoint, output)
        if json:
            console.print_json(result)
            return
        console.print_lines(tables.gguf_rows(result))
        console.next_commands(f"red train RECIPE model.name_or_path={shlex.quote(str(output))}")
        return
    if not checkpoint.exists():
        hint = "Give a folder with delta_vector.pth, that file, or a GGUF file."
        raise UserError("file-not-found", f"no such file: {checkpoint}", hint=hint)
    if base is None:
        raise UserError("invalid-option", "--base is missing: the base that the checkpoint was trained on")
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        console.silence_libraries()
        from red_cli.export.convert_published import convert as run_conversion

        result = run_conversion(checkpoint, base, output)
    if json:
        console.print_json(result)
    else:
        console.print_lines(tables.conversion_rows(result))
        from red_cli.export.next_steps import suggestions

        console.next_commands(*suggestions(output, None))


def evaluate_suite(
    target: Path, overrides: list[str], recipe: str | None, output: Path | None, asked: dict[str, Any], json: bool
) -> None:
    """`red eval` of a trained model on a benchmark: run it and show the results; `asked` is for a SuiteRequest."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # the harness's bars; read when tqdm is imported
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        opened = open_target(target, recipe, overrides)
        from red_cli.runs.folder import evaluation_folder
        from red_cli.runs.preflight import preflight_evaluation

        folder = output or evaluation_folder(target, overrides)
        preflight_evaluation(opened, None, folder)
        require_predicting_processes(opened.recipe.launch)
    if started_elsewhere(opened.recipe.launch, json):
        return
    with Terminal(json_output=json) as terminal, sigterm_as_interrupt():
        terminal.status("starting")
        console.silence_libraries()
        from red_cli.benchmarks.evaluate import evaluate_suite as run_suite
        from red_cli.benchmarks.request import SuiteRequest

        result = run_suite(opened, SuiteRequest(overrides=overrides, **asked), folder, terminal)
    from red_cli.distributed.worker_process import is_main

    if not is_main():
        return
    if json:
        console.print_json(result)
        return
    if columns := tables.suite_columns(result):
        console.print_columns(columns)
        console.print_text()
    console.print_lines(tables.suite_rows(result))
    if "next" in result:
        console.next_commands(*result["next"])
