"""Tables of a file of `benchmarks/rates.py`: mean and spread over seeds, and differences paired by seed.

    python benchmarks/rates_table.py FILE.csv [--against LoRA] [--column test]

Each method has one rate a task in the file. Differences are paired by seed; ± is the standard error of their mean.
The last column takes the mean over tasks first, seed by seed, and only seeds that every task has.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# (task, method) -> seed -> score
Scores = dict[tuple[str, str], dict[str, float]]
MEAN = "mean of tasks"


def main() -> None:
    parser = argparse.ArgumentParser(description="Tables of a file of benchmarks/rates.py.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", default="LoRA", help="the method that others are compared with")
    parser.add_argument("--column", choices=("value", "test"), default="test", help="value: of the rows that chose")
    options = parser.parse_args()
    scores = read_scores(options.file, options.column)
    tasks = list(dict.fromkeys(task for task, _ in scores))
    methods = list(dict.fromkeys(method for _, method in scores))
    add_means(scores, tasks, methods)
    print_table(
        "method", methods, [*tasks, MEAN], lambda task, method: spread(list(scores.get((task, method), {}).values()))
    )
    print()
    others = [method for method in methods if method != options.against]
    print_table(
        f"minus {options.against}",
        others,
        [*tasks, MEAN],
        lambda task, method: difference(scores.get((task, method), {}), scores.get((task, options.against), {})),
    )


def read_scores(file: Path, column: str) -> Scores:
    """The scores of a file; a task and method with two rates are an error."""
    scores: Scores = {}
    rates: dict[tuple[str, str], str] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if not row[column]:
                continue
            key = f"{row['task']}, {row['measure']}", row["method"]
            if rates.setdefault(key, row["rate"]) != row["rate"]:
                sys.exit(f"{file}: {' by '.join(key)} has the rates {rates[key]} and {row['rate']}")
            scores.setdefault(key, {})[row["seed"]] = float(row[column])
    return scores


def add_means(scores: Scores, tasks: Sequence[str], methods: Sequence[str]) -> None:
    """Add the mean over tasks, of the seeds that every task has."""
    for method in methods:
        seeds = set.intersection(*(set(scores.get((task, method), {})) for task in tasks))
        means = {seed: statistics.fmean(scores[task, method][seed] for task in tasks) for seed in sorted(seeds)}
        scores[MEAN, method] = means


def print_table(title: str, rows: Sequence[str], columns: Sequence[str], cell: Callable[[str, str], str]) -> None:
    """Print a table in Markdown; `cell` makes the text of a column and a row."""
    print(f"| {title} | {' | '.join(columns)} |")
    print("| --- " * (len(columns) + 1) + "|")
    for row in rows:
        print(f"| {row} | {' | '.join(cell(column, row) for column in columns)} |")


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation, and the number of values."""
    if len(values) < 2:
        return f"{values[0]:.2f} (1)" if values else "–"
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f} ({len(values)})"


def difference(left: dict[str, float], right: dict[str, float]) -> str:
    """The mean of the differences of the seeds that both have, ± its standard error."""
    pairs = [left[seed] - right[seed] for seed in left if seed in right]
    if len(pairs) < 2:
        return f"{pairs[0]:+.2f} (1)" if pairs else "–"
    return f"{statistics.fmean(pairs):+.2f} ± {statistics.stdev(pairs) / len(pairs) ** 0.5:.2f} ({len(pairs)})"


if __name__ == "__main__":
    main()
