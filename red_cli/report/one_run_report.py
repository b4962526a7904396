"""The report of one run or adapter: its results, its vectors and its learning curve."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.formatting import three_digits
from red_cli.recipe.methods import METHODS
from red_cli.recipe.metrics import format_score, is_percentage
from red_cli.report.adapter_changes import NORM, AdapterChanges, ModuleChange, read_adapter_changes
from red_cli.report.document import Picture, ReportDocument, Section, Table
from red_cli.report.draw_one_run import draw_curve, draw_heat_map
from red_cli.report.find_runs import FinishedRun, read_run
from red_cli.report.style import NO_PICTURES, can_draw
from red_cli.report.training_log import Curve, read_curve
from red_cli.report.write import HEAT_MAP, LEARNING_CURVE
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import is_adapter

COMPONENT_TITLES = {"scale": "scale − 1", "bias": "bias"}
_EXPLANATION = (
    f"{NORM}. A scale starts at 1 and a bias at 0; shown is how far each went. "
    "scale − 1 is a share of the module's output and compares between modules; a bias has the unit of the output "
    "that it is added to, so compare it along a row rather than between rows."
)
_MOST_CHANGED = 10


@dataclass(frozen=True)
class RunReport:
    """What a report shows of one folder.

    Attributes:
        folder: the run or adapter folder.
        run: None for a bare adapter.
        changes: None if the run trained another method than RED.
        curve: None for a bare adapter.
    """

    folder: Path
    run: FinishedRun | None
    changes: AdapterChanges | None
    curve: Curve | None
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "metrics": None if self.run is None else self.run.metrics,
            "learnt": None if self.changes is None else self.changes.to_json(),
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
    curve = read_curve(files.log, run.metric, run.selection_split)
    notes = (
        [] if curve.losses or curve.scores else [f"There is no learning curve: {files.log.name} is missing or empty."]
    )
    method = run.metrics.get("method", "red")  # runs of version 0.1 do not say
    if not METHODS[method].edits:
        notes.append(f"There is no heat map: the run's method is {method}, which trains no scale and bias.")
        return RunReport(folder, run, None, curve, notes)
    if not is_adapter(files.adapter):
        raise UserError("file-not-found", f"{folder} has no adapter", hint="Copy the complete run folder.")
    return RunReport(folder, run, read_adapter_changes(files.adapter), curve, notes)


def origin_rows(report: RunReport) -> list[tuple[str, str]]:
    """Label and value of what identifies the report: task, base and seed, or adapter and base."""
    if report.run is not None:
        recipe, metrics = report.run.recipe, report.run.metrics
        return [("task", metrics["task"]), ("base", recipe.model.name_or_path), ("seed", str(report.run.seed))]
    assert report.changes is not None
    return [("adapter", str(report.folder)), ("base", report.changes.base)]


def run_document(report: RunReport, figures: list[tuple[str, str]]) -> ReportDocument:
    """The full report of a run or adapter; `figures` are the label and value of each of the run's results."""
    sections = [Section(table=Table(["", ""], [*origin_rows(report), *figures], left=2))]
    sections += [] if can_draw() else [Section(text=f"There are {NO_PICTURES}")]
    sections += [Section(items=report.notes)] if report.notes else []
    sections += [] if report.changes is None else _change_sections(report.changes)
    if report.curve is not None and (report.curve.losses or report.curve.scores):
        sections.append(_curve_section(report, report.curve))
    return ReportDocument(report.folder.resolve().name, sections)


def _change_sections(changes: AdapterChanges) -> list[Section]:
    """The sections of a run's report on what training changed: heat map, grids and largest changes."""
    picture = None
    if can_draw():
        vectors = " and of ".join(COMPONENT_TITLES[component] for component in changes.components)
        picture = Picture(HEAT_MAP, draw_heat_map(changes), f"Size of {vectors} by kind of module and layer.")
    grids = [
        Section(f"Size of {COMPONENT_TITLES[component]} by layer", table=_grid_table(changes, component))
        for component in changes.components
    ]
    header = ["vector", "module", "path", "root mean square", "Euclidean length", "largest", "d"]
    rows = [_module_row(component, module) for component in changes.components
            for module in changes.most_changed(component, _MOST_CHANGED)]  # fmt: skip
    return [
        Section("What training changed", text=_EXPLANATION, picture=picture),
        *grids,
        Section("What changed most", table=Table(header, rows, left=3)),
    ]


def _grid_table(changes: AdapterChanges, component: str) -> Table:
    """A table with a row for each layer, because deep models have more layers than kinds of modules."""
    grid = changes.grid(component)
    most = max((value for row in grid for value in row if value is not None), default=0.0) or 1.0
    rows, shades = [], []
    for column, layer in enumerate(changes.layers):
        values = [row[column] for row in grid]
        rows.append(["none" if layer is None else str(layer),
                     *("" if value is None else three_digits(value) for value in values)])  # fmt: skip
        shades.append([None, *(None if value is None else value / most for value in values)])
    return Table(["layer", *changes.labels], rows, shades=shades)


def _module_row(component: str, module: ModuleChange) -> list[str]:
    """A row in the run report's table of the vectors that changed most."""
    change = module.changes[component]
    figures = [three_digits(value) for value in (change.rms, change.norm, change.largest)]
    return [COMPONENT_TITLES[component], module.name, module.path, *figures, f"{module.width:,}"]


def _curve_section(report: RunReport, curve: Curve) -> Section:
    """The section of a run's report on its learning curve: the picture and a table of the evaluations."""
    assert report.run is not None
    best_step = report.run.metrics["best"]["step"]
    picture = table = None
    if can_draw():
        caption = "Training loss, and the score that chooses the best evaluation, by step."
        picture = Picture(LEARNING_CURVE, draw_curve(curve, best_step), caption)
    if curve.scores:
        unit = " × 100" if is_percentage(curve.metric) else ""
        rows = [
            [f"{step:,}", format_score(curve.metric, value), "best" if step == best_step else ""]
            for step, value in curve.scores
        ]
        table = Table(["step", f"{curve.split} {curve.metric}{unit}", ""], rows, left=0)
    return Section("Learning curve", picture=picture, table=table)
