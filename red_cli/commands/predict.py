"""The command predict: put a trained model to work on the rows of a file."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from json import loads as parse
from pathlib import Path
from typing import Annotated

import typer

from red_cli import console
from red_cli.commands.options import Json, RecipeOption, TargetArgument
from red_cli.commands.prediction_screen import prediction_rows, print_answers
from red_cli.commands.processes import require_one_process, require_predicting_processes, started_elsewhere
from red_cli.commands.run_argument import require_trained, trained_folder
from red_cli.errors import UserError
from red_cli.progress import Terminal
from red_cli.signals import sigterm_as_interrupt

_STDIN = "-"
_MOST_IN_TABLE = 100  # rows that a terminal shows as a table


def predict(
    target: TargetArgument,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]", help="CSV, TSV, JSON, Parquet, Arrow, Excel or text lines; -: standard input."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to set, e.g. eval.generation.max_new_tokens=40"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A .csv, .tsv, .jsonl or .parquet file; default: standard output."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text instead of a file; may be repeated.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN", help="Read a column of the file as what the model reads: text=body"),
    ] = None,
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Labels: a less probable prediction becomes --unknown.")
    ] = None,
    unknown: Annotated[str | None, typer.Option(metavar="NAME", help="What it becomes; default: unknown.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    recipe: RecipeOption = None,
    json: Json = False,
) -> None:
    """Predict every row of a file: its rows with the columns prediction, probability, p_LABEL and problem.

    A row that cannot be predicted stays, with its reason under `problem`. The same command resumes a stopped one.
    All visible devices share the rows of a file.
    """
    from red_cli.distributed.worker_process import is_main, silence_worker

    silence_worker()
    if file is not None and "=" in file and not Path(file).exists():
        overrides = [file, *(overrides or [])]
        file = None
    target, overrides = trained_folder(target, overrides)
    require_trained(target, recipe)
    _require_options(file, text or [], output, json)
    source = None if file is None or file == _STDIN else Path(file)
    if source is not None:
        from red_cli.inference.input_file import require_input

        require_input(source)
    form = None
    if output is not None:
        from red_cli.inference.output_file import require_output

        form = require_output(output, source, overwrite)
    with tempfile.TemporaryDirectory() as folder, Terminal(json_output=json) as terminal:
        terminal.status("starting")
        from red_cli.inference.answers import threshold_of
        from red_cli.inference.given_rows import open_given_rows
        from red_cli.runs.open_trained import open_with_any_recipe
        from red_cli.runs.preflight import require_model_folder

        opened = open_with_any_recipe(target, recipe, overrides or [])
        used = opened.recipe
        require_model_folder(used.model.name_or_path)
        require_predicting_processes(used.launch)
        if file == _STDIN:
            require_one_process(used.launch, "standard input", "Give the rows as a file to share them out.")
        threshold = threshold_of(used, min_probability, unknown)
        delimiter = used.data.delimiter_character if _sets_delimiter(overrides or []) else None
        terminal.status("reading the rows")
        rows, columns = open_given_rows(file, text or [], column or [], used, delimiter, Path(folder))
        if source is not None or (text and used.launch.num_processes is not None):  # a few texts need one device
            terminal.__exit__(None, None, None)
            if started_elsewhere(used.launch, json):
                return
        for note in rows.notes:
            terminal.note(note)
        terminal.status("loading the model")
        console.silence_libraries()
        from red_cli.inference.predict_file import PredictionRequest, predict_file

        by_hand = (file is None or rows.kind == "lines") and rows.rows <= _MOST_IN_TABLE
        as_table = output is None and not json and by_hand and sys.stdout.isatty()
        keep = output or Path(folder) / "rows"
        request = PredictionRequest(
            file=rows,
            columns=columns,
            output=output,
            form=form or (".jsonl" if as_table or json else rows.own_format),
            threshold=threshold,
            partial=keep.with_name(f"{keep.name}.partial.jsonl"),
        )
        with sigterm_as_interrupt(), (Path(folder) / "shown").open("w+b") as stream:
            result = predict_file(opened, request, terminal, stream)
            if not is_main():
                return
            stream.seek(0)
            if output is None and not json and not as_table:
                terminal.__exit__(None, None, None)
                console.copy_to_stdout(stream)
            shown = [parse(line) for line in stream.read().splitlines()] if as_table or json else []
    if json:
        console.print_json({**result, **({"predictions": shown} if output is None else {})})
    elif as_table:
        print_answers(shown, columns.read, result)
    console.print_lines(prediction_rows(result), stderr=output is None or json)


def _require_options(file: str | None, texts: Sequence[str], output: Path | None, json: bool) -> None:
    """Check that the command names rows, and one place for each of its outputs."""
    if (file is None) == (not texts):
        what = "there is no file and no --text" if file is None else "there are a file and --text"
        hint = "One of: red predict RUN FILE, red predict RUN -, red predict RUN --text TEXT"
        raise UserError("invalid-option", what, hint=hint)
    if json and output is None and file is not None:
        raise UserError("invalid-option", "--json prints a summary, so the rows need a file", hint="Name it: -o FILE")


def _sets_delimiter(overrides: Sequence[str]) -> bool:
    """Whether an override of `red predict` names the delimiter; that of the training need not be that of this file."""
    from red_cli.recipe.overrides import named_keys

    return any(named.key == "data.delimiter" for named in named_keys(overrides))
