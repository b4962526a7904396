"""The sections of a report on what training changed: heat map, sizes by layer, bias against output, largest changes."""

from __future__ import annotations

from collections.abc import Sequence

from red_cli.formatting import three_digits
from red_cli.report.adapter_changes import NORM, AdapterChanges, ModuleChange, bias_shares
from red_cli.report.document import Section, Table
from red_cli.report.draw_one_run import TITLES, draw_heat_map
from red_cli.report.module_paths import readable_kind
from red_cli.report.picture import can_draw
from red_cli.runs.output_spread_file import OutputSpread

_EXPLANATION = (
    f"{NORM}. A scale starts at 1 and a bias at 0; shown is how far each went. "
    "scale − 1 is a share of the module's output and compares between modules; a bias has the unit of the output "
    "that it is added to, so compare it along a row of the picture rather than between rows."
)
_SPREAD = (
    "Root mean square of each bias in percent of the spread of its module's own output (the median standard deviation "
    "of its features), which compares between modules. Measured on the base before training"
)
_MOST_CHANGED = 10


def change_sections(changes: AdapterChanges, spread: OutputSpread | None) -> list[Section]:
    """The sections of a report on what training changed; `spread` is None if it is not recorded."""
    picture = draw_heat_map(changes) if can_draw() else None
    header = ["module", "vector", "root mean square", "length", "largest", "values"]
    rows = [_module_row(component, module) for component in changes.components
            for module in changes.most_changed(component, _MOST_CHANGED)]  # fmt: skip
    return [
        Section("What training changed", text=_EXPLANATION, picture=picture),
        *(
            Section(f"Size of {TITLES[component]} by layer", folded=True,
                    table=_layer_table(changes, changes.grid(component), component))
            for component in changes.components
        ),
        Section("What changed most", folded=True, table=Table(header, rows, left=2)),
        *([_spread_section(changes, spread)] if "bias" in changes.components else []),
    ]  # fmt: skip


def _spread_section(changes: AdapterChanges, spread: OutputSpread | None) -> Section:
    """The section of a report on the biases against the spread of their modules' outputs."""
    heading = "Bias against the output it is added to"
    shares = {} if spread is None else bias_shares(changes, spread)
    if spread is None or not shares:
        return Section(heading, text="The spread of the outputs is not recorded for this adapter.")
    found = {(module.label, module.layer): shares.get(module.path) for module in changes.modules}
    grid = [[found.get((label, layer)) for layer in changes.layers] for label in changes.labels]
    percent = [[None if value is None else value * 100 for value in row] for row in grid]
    text = f"{_SPREAD}, over {spread.tokens:,} tokens of {spread.rows} training rows."
    return Section(heading, text=text, table=_layer_table(changes, percent, "bias"))


def _layer_table(changes: AdapterChanges, grid: Sequence[Sequence[float | None]], component: str) -> Table:
    """A table with a row for each layer, because deep models have more layers than kinds of modules."""
    most = max((value for row in grid for value in row if value is not None), default=0.0) or 1.0
    rows, shades = [], []
    for column, layer in enumerate(changes.layers):
        values = [row[column] for row in grid]
        rows.append(["none" if layer is None else str(layer),
                     *("" if value is None else three_digits(value) for value in values)])  # fmt: skip
        shades.append([None, *(None if value is None else value / most for value in values)])
    return Table(["layer", *map(readable_kind, changes.labels)], rows, left=0, shades=shades, hue=component)


def _module_row(component: str, module: ModuleChange) -> list[str]:
    """A row in a report's table of the vectors that changed most."""
    change = module.changes[component]
    figures = [three_digits(value) for value in (change.rms, change.norm, change.largest)]
    layer = "" if module.layer is None else f", layer {module.layer}"
    return [f"{readable_kind(module.label)}{layer}", TITLES[component], *figures, f"{module.width:,}"]
