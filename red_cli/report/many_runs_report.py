"""A comparison as a report document and as JSON data."""

from __future__ import annotations

from typing import Any

from red_cli.report.document import Picture, ReportDocument, Section, Table
from red_cli.report.draw_many_runs import draw_comparison
from red_cli.report.many_runs import RunComparison
from red_cli.report.many_runs_cells import Cells, unit
from red_cli.report.style import NO_PICTURES, can_draw
from red_cli.report.write import COMPARISON


def comparison_document(comparison: RunComparison) -> ReportDocument:
    """The full report of a comparison, with a picture if matplotlib is installed."""
    cells = Cells(comparison)
    if can_draw():
        picture = Section(picture=Picture(COMPARISON, draw_comparison(comparison), _caption(comparison)))
    else:
        picture = Section(text=f"There are {NO_PICTURES}")
    notes = [Section("To bear in mind", items=comparison.notes)] if comparison.notes else []
    skipped = [f"{left.path}: {left.reason}" for left in comparison.left_out]
    left_out = [Section("Left out", items=skipped)] if skipped else []
    return ReportDocument(
        "Runs and the paper's figures",
        [Section(text=cells.legend, table=cells.table), picture, *notes, _every_run(comparison), *left_out],
    )


def comparison_data(comparison: RunComparison) -> dict[str, Any]:
    """The content of report.json."""
    rows = []
    for row in comparison.rows:
        papers, figures = row.paper, row.figures
        average, paper_average = row.average, row.paper_average
        rows.append(
            {
                "base": row.base,
                "method": row.method,
                "settings": dict(row.settings),
                "split": row.protocol,
                "parameters": list(row.parameters),
                "tasks": [
                    {
                        "task": column.title,
                        "metric": column.metric,
                        "mean": group.mean,
                        "std": group.std,
                        "seeds": {str(seed): score for seed, score in group.scores.items()},
                        "split": group.split,
                        "chose_best": group.chose_best,
                        "examples": group.examples,
                        "runs": [str(run.path) for run in group.runs],
                        "paper": {**papers[column].model_dump(exclude_none=True), **vars(figures[column])}
                        if column in papers
                        else None,
                    }
                    for column, group in sorted(row.cells.items(), key=lambda cell: cell[0].order)
                ],
                "average": None if average is None else vars(average),
                "paper_average": None if paper_average is None else paper_average.value,
            }
        )
    left_out = [{"path": str(left.path), "reason": left.reason} for left in comparison.left_out]
    return {"unit": unit(comparison), "rows": rows, "notes": comparison.notes, "left_out": left_out}


def _every_run(comparison: RunComparison) -> Section:
    """The section of a comparison's report that lists every run with its seed and score."""
    rows = [
        [column.title, column.metric, row.base, row.title, str(run.path), str(run.seed),
         f"{group.scores[run.seed]:.2f}", group.split, f"{group.examples:,}"]
        for row in comparison.rows
        for column, group in row.cells.items()
        for run in group.runs
    ]  # fmt: skip
    header = ["task", "metric", "base", "method", "run", "seed", "score", "split", "rows"]
    return Section("Every run", table=Table(header, rows, left=5))


def _caption(comparison: RunComparison) -> str:
    """The caption of the comparison's picture in the report."""
    paper = any(row.paper for row in comparison.rows)
    return (
        "Mean and standard deviation over seeds (filled; the dots below: each seed)"
        + (", and the paper's figure with its deviation (hollow diamond)" if paper else "")
        + "; no bar where there is one seed, or the paper has none. Each panel has its own range."
    )
