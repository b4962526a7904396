"""The summary of one run's report for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from red_cli.formatting import shortened, three_digits
from red_cli.report.adapter_changes import AdapterChanges
from red_cli.report.run_report import COMPONENT_TITLES

_BARS = "▁▂▃▄▅▆▇█"
_NOTHING = "·"
_ROOM, _LEAST_ROOM = 44, 12  # characters for label and bars, and the minimum for bars
_LONGEST_LABEL = 30
_MOST_ROWS = 5  # kinds of modules shown for each component
_MOST_NAMED, _LONGEST_LIST = 4, 54  # modules listed as changed most, and characters for the list


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
            rows.append((COMPONENT_TITLES[component] if row == shown[0] else "", text))
        if hidden := len(grid) - len(shown):
            rows.append(("", f"and {hidden} more kinds of modules, in the report"))
    named = [f"{COMPONENT_TITLES[component]}: {_most_changed(changes, component)}" for component in changes.components]
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
    modules = changes.most_changed(component, _MOST_NAMED)
    if not modules[0].changes[component].rms:
        return "nothing, every value is where it started"
    named = [f"{module.name} ({three_digits(module.changes[component].rms)})" for module in modules]
    while len(", ".join(named)) > _LONGEST_LIST and len(named) > 1:
        named.pop()
    return ", ".join(named)


def _range(values: Sequence[float]) -> str:
    low, high = three_digits(min(values)), three_digits(max(values))
    return low if low == high else f"{low} to {high}"
