"""The table of many runs as text to paste: LaTeX, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Literal

from red_cli.escape import terminal_line
from red_cli.report.document import markdown_table
from red_cli.report.many_runs import RunComparison
from red_cli.report.many_runs_cells import Cells

TableFormat = Literal["latex", "csv", "md"]
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "…": r"\dots{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip
_LAST_LATIN = 0x17F  # every LaTeX typesets the letters up to here


def table_text(comparison: RunComparison, form: TableFormat) -> str:
    """The table of a comparison as text in one of the formats."""
    return _WRITERS[form](comparison)


def latex_text(text: str) -> str:
    """`text` in the LaTeX of a table of many runs to paste; characters not in the usual fonts become codes."""
    return "".join(_LATEX.get(character) or _in_latin(character) for character in terminal_line(text))


def _in_latin(character: str) -> str:
    """A character of a table of many runs for LaTeX, or its code if the usual fonts do not have it."""
    return character if ord(character) <= _LAST_LATIN else f"[U+{ord(character):04X}]"


def _latex(comparison: RunComparison) -> str:
    """The table of a comparison in LaTeX, with the rules of booktabs; bases have lines of their own if several."""
    cells = Cells(comparison)
    table = cells.table
    bases = {row.base for row in comparison.rows}
    header = [title.capitalize() if title in ("method", "parameters") else title for title in table.header[1:]]
    lines, shown = [], ""
    for base, *row in table.rows:
        if len(bases) > 1 and base not in ("", shown):
            lines += [r"\midrule"] if shown else []
            lines.append(rf"\multicolumn{{{len(header)}}}{{l}}{{\textit{{{latex_text(base)}}}}} \\")
            shown = base
        lines.append(_latex_row(row))
    base = "" if len(bases) > 1 else f" Base: {' '.join(bases)}."
    comment = terminal_line(f"{cells.legend}{base}")
    columns = "l" + "r" * (len(header) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(header), r"\midrule", *lines, r"\bottomrule",
            r"\end{tabular}"]  # fmt: skip
    return "\n".join([f"% {comment}", r"% It needs \usepackage{booktabs}.", *body]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    """A row of a comparison's table in LaTeX."""
    return " & ".join(map(latex_text, cells)) + r" \\"


def _csv(comparison: RunComparison) -> str:
    """The table of a comparison as CSV: a line for each row and task, with numbers that programs can read."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["base", "method", "parameters", "task", "metric", "split", "rows", "seeds", "mean", "std",
                     "by_seed", "paper", "paper_std"])  # fmt: skip
    for row in comparison.rows:
        figures = row.figures
        for column, group in sorted(row.cells.items(), key=lambda cell: cell[0].order):
            figure = figures.get(column)
            std = "" if group.std is None else f"{group.std:.4f}"
            paper = ["", ""] if figure is None else [figure.score, "" if figure.std is None else figure.std]
            by_seed = " ".join(f"{seed}={score:.4f}" for seed, score in group.scores.items())
            parameters = int(group.first.metrics["parameters"]["edited"])
            writer.writerow([row.base, row.title, parameters, column.title, column.metric, group.split, group.examples,
                             len(group.runs), f"{group.mean:.4f}", std, by_seed, *paper])  # fmt: skip
    return text.getvalue()


def _markdown(comparison: RunComparison) -> str:
    """The table of many runs in Markdown, to paste."""
    return markdown_table(Cells(comparison).table)


_WRITERS: dict[TableFormat, Callable[[RunComparison], str]] = {"latex": _latex, "csv": _csv, "md": _markdown}
