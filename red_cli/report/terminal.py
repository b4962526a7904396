"""What a terminal shows of one run's report."""

from __future__ import annotations

from collections.abc import Sequence

from red_cli.report.draw_run import shortened, three_digits
from red_cli.report.learnt import Learnt
from red_cli.report.run_report import CHANGES

_BARS = "▁▂▃▄▅▆▇█"
_NOTHING = "·"
_ROOM, _LEAST_ROOM = 44, 12  # columns of a narrow terminal for label and bars; for bars alone
_LONGEST_LABEL = 30
_MOST_ROWS = 5  # kinds of modules shown for each component
_MOST_NAMED, _LONGEST_LIST = 4, 54  # modules that changed most; columns for them


def learnt_rows(learnt: Learnt) -> list[tuple[str, str]]:
    """What was learnt: for each component bars by layer, and the modules that changed most."""
    names = [shortened(label, _LONGEST_LABEL) for label in learnt.labels]
    width = max(map(len, names))
    rows = []
    for component in learnt.components:
        grid = learnt.grid(component)
        tops = [max(value for value in row if value is not None) for row in grid]
        shown = sorted(sorted(range(len(grid)), key=lambda row: -tops[row])[:_MOST_ROWS])
        for row in shown:
            drawn = bars(grid[row], max(tops), max(_LEAST_ROOM, _ROOM - width))
            text = f"{names[row]:<{width}}  {drawn}  {_range([value for value in grid[row] if value is not None])}"
            rows.append((CHANGES[component] if row == shown[0] else "", text))
        if hidden := len(grid) - len(shown):
            rows.append(("", f"and {hidden} more kinds of modules, in the report"))
    named = [f"{CHANGES[component]}: {_most_changed(learnt, component)}" for component in learnt.components]
    return [*rows, *zip(["changed most", *[""] * len(named)], named, strict=False)]


def bars(values: Sequence[float | None], most: float, room: int) -> str:
    """A bar for each layer, as high as its share of `most`; a dot where nothing is edited.

    Where there are more layers than `room`, neighbours share a bar: the highest of them.
    """
    together = -(-len(values) // room)
    drawn = []
    for start in range(0, len(values), together):
        some = [value for value in values[start : start + together] if value is not None]
        share = max(some, default=0.0) / (most or 1.0)
        drawn.append(_BARS[round(share * (len(_BARS) - 1))] if some else _NOTHING)
    return "".join(drawn)


def _most_changed(learnt: Learnt, component: str) -> str:
    modules = learnt.most_changed(component, _MOST_NAMED)
    if not modules[0].sizes[component].rms:
        return "nothing, every value is where it started"
    named = [f"{module.name} ({three_digits(module.sizes[component].rms)})" for module in modules]
    while len(", ".join(named)) > _LONGEST_LIST and len(named) > 1:
        named.pop()
    return ", ".join(named)


def _range(values: Sequence[float]) -> str:
    low, high = three_digits(min(values)), three_digits(max(values))
    return low if low == high else f"{low} to {high}"
