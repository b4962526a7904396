"""The report of one run or adapter: its results, its learning curve, its vectors and its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.recipe.methods import METHODS
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.score_format import format_score, is_percentage
from red_cli.report.adapter_changes import AdapterChanges, read_adapter_changes
from red_cli.report.change_sections import change_sections
from red_cli.report.document import ReportDocument, Section, Table
from red_cli.report.draw_one_run import draw_curve
from red_cli.report.find_runs import FinishedRun, read_run
from red_cli.report.names import base_name, method_title
from red_cli.report.picture import NO_PICTURES, can_draw
from red_cli.report.result_sections import (
    class_sections,
    error_sections,
    facts_section,
    sample_sections,
    scores_section,
    untuned_score,
)
from red_cli.report.settings_sections import data_section, settings_section
from red_cli.report.training_log import Curve, read_curve
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import is_adapter
from red_cli.runs.output_spread_file import OutputSpread, read_output_spread


@dataclass(frozen=True)
class RunReport:
    """What a report shows of one folder.

    Attributes:
        folder: the run or adapter folder.
        run: None for a bare adapter.
        changes: None if the run trained another method than RED.
        curve: None for a bare adapter.
        spread: None if it is not recorded.
    """

    folder: Path
    run: FinishedRun | None
    changes: AdapterChanges | None
    curve: Curve | None
    spread: OutputSpread | None = None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        spread = self.spread
        return {
            "folder": str(self.folder),
            "metrics": None if self.run is None else self.run.metrics,
            "learnt": None if self.changes is None else self.changes.to_json(),
            "output_spread": None if spread is None else vars(spread),
            "curve": None if self.curve is None else self.curve.to_json(),
            "notes": self.notes,
        }


def report_on(folder: Path) -> RunReport:
    """Read a finished run or a bare adapter. The base is not loaded.

    Raises:
        UserError: the folder is neither, the run is not finished, or a file is damaged.
    """
    if is_adapter(folder):
        return RunReport(folder, None, read_adapter_changes(folder), None)
    run = read_run(folder)
    files = RunFolder(folder)
    curve = read_curve(files.log, run.metric, run.selection_split, untuned_score(run), run.metric_title())
    notes = (
        [] if curve.losses or curve.scores else [f"There is no learning curve: {files.log.name} is missing or empty."]
    )
    method = run.metrics.get("method", "red")  # runs of version 0.1 do not say
    if method == UNTUNED:
        return RunReport(folder, run, None, curve, None, ["Nothing was trained: these are the scores of the base."])
    if not METHODS[method].edits:
        notes.append(f"There is no heat map: the run's method is {method}, which trains no scale and bias.")
        return RunReport(folder, run, None, curve, None, notes)
    if not is_adapter(files.adapter):
        raise UserError("file-not-found", f"{folder} has no adapter", hint="Copy the complete run folder.")
    spread = read_output_spread(files.output_spread)
    return RunReport(folder, run, read_adapter_changes(files.adapter), curve, spread, notes)


def origin_rows(report: RunReport) -> list[tuple[str, str]]:
    """The first rows of one run's or adapter's report, label and value: task, base and seed, or adapter and base."""
    if report.run is not None:
        recipe, metrics = report.run.recipe, report.run.metrics
        return [("task", metrics["task"]), ("base", recipe.model.name_or_path), ("seed", str(report.run.seed))]
    assert report.changes is not None
    return [("adapter", str(report.folder)), ("base", report.changes.base)]


def run_document(report: RunReport) -> ReportDocument:
    """The full report of a run or adapter: score and curve first, then results, what changed, and how it was made."""
    run, curve = report.run, report.curve
    sections = [Section(text=_origin(report))]
    sections += [] if run is None else [facts_section(run)]
    if curve is not None and (curve.losses or curve.scores):
        sections += _curve_sections(report, curve)
    recorded = [] if run is None else [str(note["text"]) for note in run.metrics.get("notes") or ()]
    pictures = [] if can_draw() else [f"There are {NO_PICTURES}"]
    if notes := [*recorded, *report.notes, *pictures]:
        sections.append(Section("To bear in mind", items=notes))
    if run is not None:
        sections += [scores_section(run), *class_sections(run), *error_sections(run)]
    if run is not None and curve is not None:
        sections += sample_sections(curve, run.metrics["best"]["step"])
    sections += [] if report.changes is None else change_sections(report.changes, report.spread)
    sections += [] if run is None else [settings_section(run), data_section(run)]
    return ReportDocument(report.folder.resolve().name, sections)


def _origin(report: RunReport) -> str:
    """The line below a report's title: what was trained on what."""
    if report.run is None:
        assert report.changes is not None
        return f"An adapter of RED for {base_name(report.changes.base)}."
    metrics, recipe = report.run.metrics, report.run.recipe
    base = base_name(recipe.model.name_or_path)
    return f"{method_title(report.run)} for {metrics['task']} on {base}, seed {report.run.seed}."


def _curve_sections(report: RunReport, curve: Curve) -> list[Section]:
    """The learning curve in the report of one run: its picture and a folded table of every evaluation."""
    assert report.run is not None
    best_step = report.run.metrics["best"]["step"]
    sections = [Section("Learning curve", picture=draw_curve(curve, best_step) if can_draw() else None)]
    if curve.all_scores:
        unit = ", percent" if is_percentage(curve.metric) else ""
        rows = [
            [f"{step:,}", "" if curve.steps_per_epoch is None else f"{step / curve.steps_per_epoch:.3g}",
             format_score(curve.metric, value), "best" if step == best_step else "" if step else "untuned"]
            for step, value in curve.all_scores
        ]  # fmt: skip
        table = Table(["step", "epoch", f"{curve.split} {curve.title}{unit}", ""], rows, left=0)
        sections.append(Section("Every evaluation", table=table, folded=True))
    return sections
