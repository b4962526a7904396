"""Draw the pictures of results in a folder from the figures in it. Light and dark follow the reader's system.

    python tools/draw_figures.py docs/figures

`rates.csv` becomes `rates.svg`: the score of each method against its learning rate, one panel a task. Relative and
absolute rates are curves of their own; x4 is an earlier rule, with four times the rate for scales. The wider a curve's
plateau, the less its rate matters.
`adapter_changes.json` becomes `adapter_changes.svg`: the heat map that `red report` draws of an adapter; the file is
the key `learnt` of its `report.json`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import red_cli.report
from red_cli.report.adapter_changes import AdapterChanges, ModuleChange, VectorChange
from red_cli.report.draw_one_run import draw_heat_map
from red_cli.report.picture import MUTED, PAGE, SERIES, SMALL, Picture, picture_of, styled_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = dict[float, list[float]]  # learning rate -> values of the seeds
Name = tuple[str, str]  # method and rates

STYLES = {"relative": "-", "relative x4": ":", "absolute": "--"}
ACROSS = 2  # panels
PANEL = (4.4, 2.9)  # inches


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of results from their figures.")
    parser.add_argument("folder", type=Path, help="the folder of rates.csv and adapter_changes.json")
    folder = parser.parse_args().folder
    with (folder / "rates.csv").open(encoding="utf-8", newline="") as file:
        tasks = curves_of(csv.DictReader(file))
    write(draw_rates(tasks), folder / "rates.svg")
    write(
        draw_heat_map(changes_of(json.loads((folder / "adapter_changes.json").read_text()))),
        folder / "adapter_changes.svg",
    )
    for task, curves in tasks.items():
        for name, curve in curves.items():
            best = abs(max(map(mean, curve.values())))
            print(f"{task:32} {', '.join(name):20} best {best:8.4f}, plateau {width(curve, task):4.1f} wide")


def curves_of(rows: Iterable[dict[str, str]]) -> dict[str, dict[Name, Curve]]:
    """Task -> method and rates -> its values: the score in percent, or the negative loss."""
    tasks: dict[str, dict[Name, Curve]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        value = -float(row["value"]) if row["measure"] == "loss" else float(row["value"])
        curves = tasks[f"{row['task']} ({row['measure']})"]
        curves[row["method"], row["rates"]][float(row["rate"])].append(value)
    return {task: {name: dict(curve) for name, curve in curves.items()} for task, curves in tasks.items()}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def width(curve: Curve, task: str) -> float:
    """The factor between the lowest and highest rate whose score is within a point (or 5 % of the loss) of the best."""
    own = max(map(mean, curve.values()))
    slack = 0.05 * abs(own) if "(loss)" in task else 1.0
    good = [rate for rate, values in curve.items() if mean(values) >= own - slack]
    return max(good) / min(good)


def draw_rates(tasks: dict[str, dict[Name, Curve]]) -> Picture:
    """One panel a task, with the learning rate on a logarithmic axis. A method has a colour, its rates a line style."""
    down = -(-len(tasks) // ACROSS)
    figure = styled_figure(PANEL[1] * down, gap=0.04)
    figure.set_size_inches(PANEL[0] * ACROSS, PANEL[1] * down + 0.5)
    panels = figure.subplots(down, ACROSS, squeeze=False, sharex=True).ravel()
    for empty in panels[len(tasks) :]:
        empty.set_axis_off()
    methods = sorted({method for curves in tasks.values() for method, _ in curves}, key=order)
    lines: dict[Name, Any] = {}
    for axes, (task, curves) in zip(panels, tasks.items(), strict=False):
        draw_panel(axes, task, curves, methods, lines)
    shown = sorted(lines, key=lambda name: (methods.index(name[0]), name[1]))
    texts = [title(name, shown) for name in shown]
    figure.legend(
        [lines[name] for name in shown], texts, fontsize=SMALL, frameon=False, ncols=4, loc="outside lower center"
    )
    return picture_of(figure, "rates.png", f"Score against learning rate of {', '.join(methods)}, by task.")


def draw_panel(
    axes: Axes, task: str, curves: dict[Name, Curve], methods: Sequence[str], lines: dict[Name, Any]
) -> None:
    """Draw the curves of one task, and add their lines for the legend."""
    from matplotlib.ticker import LogLocator, NullFormatter

    tidy(axes)
    for name, curve in sorted(curves.items()):
        again, number = divmod(methods.index(name[0]), len(SERIES))
        colour, mark = SERIES[number]
        rates = sorted(curve)
        values = [abs(mean(curve[rate])) for rate in rates]
        (lines[name],) = axes.plot(
            rates, values, color=colour, linestyle=STYLES.get(name[1], "-."), linewidth=1.6,
            marker=mark, markersize=4, markerfacecolor=PAGE if again else colour,
        )  # fmt: skip
    logarithmic = [axes.xaxis]
    axes.set_xscale("log")
    if "(loss)" in task:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.invert_yaxis()
        logarithmic.append(axes.yaxis)
    for axis in logarithmic:
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", length=0, labelbottom=True)
    axes.set_title(task)
    axes.set_xlabel("learning rate", fontsize=SMALL, color=MUTED)


def order(method: str) -> tuple[int, str]:
    """RED and its kinds first, then the others by name."""
    return (not method.startswith("RED"), method)


def title(name: Name, names: Sequence[Name]) -> str:
    """A method, with its rates where it has curves of several."""
    method, rates = name
    return method if sum(other == method for other, _ in names) == 1 else f"{method}, {rates}"


def changes_of(learnt: dict[str, Any]) -> AdapterChanges:
    """The changes that `red report` writes to report.json under `learnt`."""
    modules = [
        ModuleChange(
            module["path"], module["kind"], module["layer"], module["width"],
            {component: VectorChange(**module[component]) for component in learnt["components"]},
        )
        for module in learnt["modules"]
    ]  # fmt: skip
    labels = list(dict.fromkeys(module.label for module in modules))
    layers = sorted({module.layer for module in modules if module.layer is not None})
    return AdapterChanges(learnt["base"], learnt["components"], labels, [""] * len(labels), [*layers], modules)


def write(picture: Picture, path: Path) -> None:
    """Write a picture with the colours of reports, and the page's colour behind it: it is read outside of a page."""
    style = (Path(red_cli.report.__file__).parent / "templates" / "style.css").read_text().partition("\nbody ")[0]
    start, end, rest = picture.svg.partition(">")
    paper = '<rect width="100%" height="100%" fill="var(--page)"/>'
    path.write_text(f"{start}{end}<style>{style}</style>{paper}{rest}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
