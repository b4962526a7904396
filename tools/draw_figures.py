"""Draw the score of each method against its learning rate, from the figures in docs/figures/rates.csv.

    python tools/draw_rates.py docs/figures

Relative and absolute rates are curves of their own; x1 is relative with scales at the rate itself, not four times it.
The wider the plateau of a curve, the less its rate matters.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

Curve = dict[float, list[float]]  # learning rate -> values of the seeds


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the score against the learning rate.")
    parser.add_argument("folder", type=Path, help="the folder of rates.csv, which rates.svg is written to")
    folder = parser.parse_args().folder
    with (folder / "rates.csv").open(encoding="utf-8", newline="") as file:
        tasks = curves_of(csv.DictReader(file))
    draw(tasks, folder / "rates.svg")
    for task, curves in tasks.items():
        for name, curve in curves.items():
            best = abs(max(map(mean, curve.values())))
            print(f"{task:20} {name:16} best {best:8.4f}, plateau {width(curve, task):4.1f} wide")


def curves_of(rows: Iterable[dict[str, str]]) -> dict[str, dict[str, Curve]]:
    """Task -> name of a curve -> its values: the score in percent, or the negative loss."""
    tasks: dict[str, dict[str, Curve]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        value = -float(row["value"]) if row["measure"] == "loss" else float(row["value"])
        name = f"{row['method']}, {row['rates']}" if row["method"].startswith("RED") else row["method"]
        tasks[f"{row['task']} ({row['measure']})"][name][float(row["rate"])].append(value)
    return {task: {name: dict(curve) for name, curve in curves.items()} for task, curves in tasks.items()}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def width(curve: Curve, task: str) -> float:
    """The factor between the lowest and highest rate whose score is within a point (or 5 % of the loss) of the best."""
    own = max(map(mean, curve.values()))
    slack = 0.05 * abs(own) if "(loss)" in task else 1.0
    good = [rate for rate, values in curve.items() if mean(values) >= own - slack]
    return max(good) / min(good)


def draw(tasks: dict[str, dict[str, Curve]], path: Path) -> None:
    """Write one panel a task, with the learning rate on a logarithmic axis."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(3.2 * len(tasks), 3.3), layout="constrained")
    names = sorted({name for curves in tasks.values() for name in curves})
    colours = {name: f"C{index}" for index, name in enumerate(names)}  # the same in every panel
    lines = {}
    panels = figure.subplots(1, len(tasks), squeeze=False, sharex=True)[0]
    for panel, (task, curves) in zip(panels, tasks.items(), strict=True):
        for name, curve in curves.items():
            rates = sorted(curve)
            kind = {"relative": "-", "relative x1": ":"}.get(name.partition(", ")[2], "--")
            values = [abs(mean(curve[rate])) for rate in rates]
            (lines[name],) = panel.plot(rates, values, color=colours[name], linestyle=kind, marker="o", markersize=3)
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
        if "(loss)" in task:
            panel.set_yscale("log")
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.invert_yaxis()
        panel.set_title(task, fontsize=9)
        panel.set_xlabel("learning rate", fontsize=8)
        panel.tick_params(labelsize=7)
    shown = [name for name in names if name in lines]
    figure.legend([lines[name] for name in shown], shown, fontsize=7, ncols=len(shown), loc="outside lower center")
    figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
