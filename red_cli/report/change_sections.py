"""What training changed, in the sections of a report, and as rows for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from red_cli.formatting import shortened, three_digits
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
_BARS = "▁▂▃▄▅▆▇█"
_NOTHING = "·"
_ROOM, _LEAST_ROOM = 44, 12  # characters for label and bars, and the minimum for bars
_LONGEST_LABEL = 30
_MOST_ROWS = 5  # kinds of modules shown for each component
_MOST_NAMED, _LONGEST_LIST = 4, 54  # modules listed as changed most, and characters for the list


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


def change_rows(changes: AdapterChanges) -> list[tuple[str, str]]:
    """Label and value rows: for each component bars by layer, and the modules that changed most."""
    names = [shortened(label, _LONGEST_LABEL) for label in changes.labels]
    width = max(map(len, names))
    rows = []
    for component in changes.components:
        grid = changes.grid(component)
        tops = [max(value for value in row if value is not None) for row in grid]
        shown = sorted(sorted(range(len(grid)), key=lambda row: -tops[row])[:_MOST_ROWS])
        for row in shown:
            drawn = bars(grid[row], max(tops), max(_LEAST_ROOM, _ROOM - width))
            text = f"{names[row]:<{width}}  {drawn}  {_range([value for value in grid[row] if value is not None])}"
            rows.append((TITLES[component] if row == shown[0] else "", text))
        if hidden := len(grid) - len(shown):
            rows.append(("", f"and {hidden} more kinds of modules, in the report"))
    named = [f"{TITLES[component]}: {_most_changed(changes, component)}" for component in changes.components]
    return [*rows, *zip(["changed most", *[""] * len(named)], named, strict=False)]


def bars(values: Sequence[float | None], most: float, room: int) -> str:
    """One character for each layer: a bar of height value / `most`, or a dot if the layer is not edited.

    If there are more layers than `room`, neighbouring layers share a bar, which shows their maximum.
    """
    together = -(-len(values) // room)
    drawn = []
    for start in range(0, len(values), together):
        some = [value for value in values[start : start + together] if value is not None]
        share = max(some, default=0.0) / (most or 1.0)
        drawn.append(_BARS[round(share * (len(_BARS) - 1))] if some else _NOTHING)
    return "".join(drawn)


def _most_changed(changes: AdapterChanges, component: str) -> str:
    """The modules that changed most in one component, as a line of the terminal's summary."""
    modules = changes.most_changed(component, _MOST_NAMED)
    if not modules[0].changes[component].rms:
        return "nothing, every value is where it started"
    named = [f"{module.name} ({three_digits(module.changes[component].rms)})" for module in modules]
    while len(", ".join(named)) > _LONGEST_LIST and len(named) > 1:
        named.pop()
    return ", ".join(named)


def _range(values: Sequence[float]) -> str:
    """The smallest and the largest value as text for the terminal's summary of a report."""
    low, high = three_digits(min(values)), three_digits(max(values))
    return low if low == high else f"{low} to {high}"
