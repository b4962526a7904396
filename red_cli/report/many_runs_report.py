"""A comparison as a report document and as JSON data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from red_cli.report.difference_sections import differences_section, differences_to_reference
from red_cli.report.document import ReportDocument, Section, Table
from red_cli.report.draw_many_runs import draw_comparison
from red_cli.report.draw_score_by_parameters import draw_score_by_parameters, has_scores_by_parameters
from red_cli.report.many_runs import RunComparison
from red_cli.report.many_runs_cells import Cells, unit
from red_cli.report.picture import NO_PICTURES, can_draw


def comparison_document(comparison: RunComparison) -> ReportDocument:
    """The full report of a comparison, with pictures if matplotlib is installed."""
    pictures = [Section(text=f"There are {NO_PICTURES}")]
    if can_draw():
        pictures = [Section(picture=draw_comparison(comparison))]
        if has_scores_by_parameters(comparison):
            picture = draw_score_by_parameters(comparison)
            pictures.append(Section("Score by trained parameters", picture=picture))
    notes = [Section("To bear in mind", items=comparison.notes)] if comparison.notes else []
    skipped = [f"{left.path}: {left.reason}" for left in comparison.left_out]
    left_out = [Section("Left out", items=skipped)] if skipped else []
    return ReportDocument(
        "Runs and the paper's figures" if any(row.paper for row in comparison.rows) else "Runs",
        [
            _results(comparison),
            *pictures,
            *differences_section(comparison),
            *notes,
            _every_run(comparison),
            *left_out,
        ],
    )


def comparison_data(comparison: RunComparison) -> dict[str, Any]:
    """The comparison as JSON data for its report: the content of report.json."""
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
    differences = [difference.to_json() for difference in differences_to_reference(comparison)]
    return {
        "unit": unit(comparison),
        "rows": rows,
        "differences": differences,
        "notes": comparison.notes,
        "left_out": left_out,
    }


def _results(comparison: RunComparison) -> Section:
    """The section of a comparison's report with its table, without the base's column if there is one base."""
    cells = Cells(comparison)
    bases = {row.base for row in comparison.rows}
    if len(bases) > 1:
        return Section(text=cells.legend, table=replace(cells.table, name=1))
    table = cells.table
    narrow = replace(table, header=table.header[1:], rows=[row[1:] for row in table.rows], left=1)
    return Section(text=f"{cells.legend} Base: {bases.pop()}.", table=narrow)


def _every_run(comparison: RunComparison) -> Section:
    """The section of a comparison's report that lists every run with its seed and score."""
    rows = [
        [row.title, column.title, column.metric_title, str(run.seed), f"{group.scores[run.seed]:.2f}", group.split,
         f"{group.examples:,}", row.base, str(run.path)]
        for row in comparison.rows
        for column, group in row.cells.items()
        for run in group.runs
    ]  # fmt: skip
    header = ["method", "task", "metric", "seed", "score", "split", "rows", "base", "run"]
    return Section("Every run", table=Table(header, rows, left=3), folded=True)
