"""The command report: one run in detail, or many runs in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from red_cli import console
from red_cli import plan_and_result_tables as tables
from red_cli.commands.completion import complete_run
from red_cli.commands.options import Json
from red_cli.commands.run_argument import trained_folder, with_similar_runs
from red_cli.errors import UserError
from red_cli.progress import Terminal

if TYPE_CHECKING:
    from red_cli.report.find_runs import FinishedRun

_MOST_LEFT_OUT = 5


class TableFormat(str, Enum):
    """The values of the option --format of `red report`, for the table of many runs."""

    latex = "latex"
    csv = "csv"
    md = "md"


@dataclass(frozen=True)
class _Answer:
    """The command's output: JSON data, or a preformatted table followed by rows of label and value."""

    data: dict[str, Any]
    rows: list[tuple[str, str]]
    table: str | None = None


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="A run or adapter folder; or several, or folders of runs.",
            autocompletion=complete_run,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write; default: report/ in the folder named, or here."),
    ] = None,
    form: Annotated[
        TableFormat | None,
        typer.Option("--format", help="Print the table of the runs as LaTeX, CSV or Markdown, and write no report."),
    ] = None,
    json: Json = False,
) -> None:
    """Report on one run layer by layer, or compare many runs in one table with the paper's figures."""
    folders = [trained_folder(folder, None)[0] for folder in folders]
    if missing := [folder for folder in folders if not folder.is_dir()]:
        from red_cli.runs.folder_kind import no_folder_of_kind

        wanted = "Give a run folder, or a folder with runs in it."
        raise with_similar_runs(no_folder_of_kind(missing[0], wanted), missing[0])
    if form is not None:
        _print_table(folders, form, given="--output" if output is not None else "--json" if json else None)
        return
    with Terminal(json_output=json) as terminal:
        terminal.status("starting")
        from red_cli.files import require_inside
        from red_cli.report.picture import NO_PICTURES, can_draw
        from red_cli.report.write import check_output
        from red_cli.runs.folder_kind import is_adapter, is_run

        single = len(folders) == 1 and (is_run(folders[0]) or is_adapter(folders[0]))
        around = folders[0] if len(folders) == 1 else Path()
        target = output or require_inside(around, around / "report")
        check_output(target)
        terminal.status("reading and drawing")
        answer = _report_run(folders[0], target) if single else _report_runs(folders, target)
        if not can_draw():
            terminal.note(NO_PICTURES)
    if json:
        console.print_json(answer.data)
        return
    if answer.table is not None:
        console.print_text(answer.table)
    console.print_lines(answer.rows)


def _print_table(folders: list[Path], form: TableFormat, given: str | None) -> None:
    """Print the table of many runs in a format to paste; `given` is an option that does not go with it."""
    from red_cli.report.many_runs import compare_runs
    from red_cli.report.many_runs_formats import formatted_table

    with Terminal() as terminal:
        if given is not None:
            ending = "tex" if form is TableFormat.latex else form.value
            hint = f"Drop {given}. To keep the table: red report RUN… --format {form.value} > table.{ending}"
            raise UserError("invalid-option", f"--format and {given} do not go together", hint=hint)
        comparison = compare_runs(folders)
        for note in [*comparison.notes, *(f"left out: {left.path}: {left.reason}" for left in comparison.left_out)]:
            terminal.note(note)
    console.print_piece(formatted_table(comparison, form.value))


def _report_run(folder: Path, output: Path) -> _Answer:
    """Write the report of one run or adapter; return its data, and the rows to print."""
    from red_cli.report.change_sections import change_rows
    from red_cli.report.one_run_report import origin_rows, report_on, run_document
    from red_cli.report.write import write_report

    found = report_on(folder)
    figures = [] if found.run is None else _result_rows(found.run, folder)
    data = found.to_json()
    files = write_report(output, run_document(found), data)
    changes = [] if found.changes is None else change_rows(found.changes)
    rows = [*origin_rows(found), *figures, *changes, *_listed("note", found.notes), ("report", str(files[0]))]
    return _Answer({**data, "files": [str(file) for file in files]}, rows)


def _result_rows(run: FinishedRun, folder: Path) -> list[tuple[str, str]]:
    """What the command `red report` prints of one run's results; of an untuned base, its scores alone."""
    from red_cli.recipe.metrics import UNTUNED
    from red_cli.report.result_sections import facts_section

    if run.metrics.get("method") == UNTUNED:
        return [(fact.label, f"{fact.value}  {fact.remark}") for fact in facts_section(run).facts]
    return tables.result_rows({**run.metrics, "folder": str(folder)})


def _report_runs(folders: list[Path], output: Path) -> _Answer:
    """Write the report that compares many runs; return its data, and the rows and table to print."""
    from red_cli.report.many_runs import compare_runs
    from red_cli.report.many_runs_cells import Cells
    from red_cli.report.many_runs_formats import terminal_lines
    from red_cli.report.many_runs_report import comparison_data, comparison_document
    from red_cli.report.write import write_report

    comparison = compare_runs(folders)
    data = comparison_data(comparison)
    files = write_report(output, comparison_document(comparison), data)
    left_out = [f"{left.path}: {left.reason}" for left in comparison.left_out]
    if more := len(left_out) - _MOST_LEFT_OUT:
        left_out[_MOST_LEFT_OUT:] = [f"and {more} more, all in the report"] if more > 0 else []
    rows = [
        ("scored on", Cells(comparison).scored_on),
        *_listed("bear in mind", comparison.notes),
        *_listed("left out", left_out),
        ("report", str(files[0])),
    ]
    table = "\n".join(terminal_lines(comparison, console.width())) + "\n"
    return _Answer({**data, "files": [str(file) for file in files]}, rows, table)


def _listed(label: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Rows that the command `red report` prints, of which only the first has the label."""
    return [(label if number == 0 else "", text) for number, text in enumerate(texts)]
