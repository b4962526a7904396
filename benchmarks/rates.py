"""Scores of methods at several learning rates, by `red train` on tasks of a small encoder and a small decoder.

    python benchmarks/rates.py docs/figures/rates.csv --encoder FOLDER --decoder FOLDER --data FOLDER
        [--tasks CoLA JSON] [--methods RED LoRA] [--rates 0.01 0.02] [--seeds 42 43] [--rows 2500]

The tasks are CoLA, MRPC, RTE and SST-2 (parquet files in DATA/glue) on the encoder. On the decoder they are E2E NLG
(DATA/e2e_nlg), ARC-easy (DATA/commonsense, scored by likelihood) and JSON answers (conversations made here from a
grammar). Training rows that are set apart choose the best evaluation and are the `value`; the validation files (of the
decoder's tasks, test files) are the `test`, which chooses nothing. Each run adds a line for each measure to the CSV
file; what is in it is not run again, so that a stopped benchmark resumes. `untuned` scores the base as it is.
`tools/draw_figures.py` draws the file.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml

from red_cli.cli import app

FIELDS = ("task", "measure", "method", "rates", "rate", "seed", "value", "test")
METHODS: dict[str, list[str]] = {
    "RED": ["method=red", "red.positions=[ffn]"],
    "RED++": ["method=red", "red.positions=red++"],
    "LoRA": ["method=lora"],
    "IA3": ["method=ia3"],
    "BitFit": ["method=bitfit"],
    "full": ["method=full"],
    "head": ["method=head"],
    # The base as it is: one step at a rate that changes nothing. On the encoder its head is random.
    "untuned": ["method=red", "train.max_steps=1"],
}
RATES: dict[tuple[str, str], list[float]] = {
    ("RED", "relative"): [0.005, 0.015, 0.05, 0.15, 0.5],
    ("RED++", "relative"): [0.005, 0.015, 0.05, 0.15, 0.5],
    ("RED", "absolute"): [0.002, 0.006, 0.02, 0.06, 0.2],
    ("RED++", "absolute"): [0.001, 0.003, 0.01, 0.03, 0.1],
    ("LoRA", "absolute"): [0.0005, 0.002, 0.008],
    ("IA3", "absolute"): [0.005, 0.02],
    ("BitFit", "absolute"): [0.002, 0.005],
    ("full", "absolute"): [0.00005, 0.0001],
    ("head", "absolute"): [0.03],
    ("untuned", "absolute"): [1e-9],
}
_PERCENT = {"Matthews", "accuracy"}  # measures that metrics.json has as shares
_APART = 600  # of the training rows, at most a fifth
_ITEMS = ["pizza", "soup", "salad", "tea", "coffee", "cake", "rice", "bread", "juice", "curry"]
_PLACES = ["London", "Oslo", "Madrid", "Lima", "Cairo", "Delhi", "Quito", "Perth", "Turin", "Accra"]
_NAMES = ["Ada", "Ben", "Cleo", "Dev", "Eva", "Finn", "Gita", "Hugo", "Iris", "Jon", "Kim", "Lea"]


@dataclass(frozen=True)
class Task:
    """How a task's files are made, and the recipe that trains on them.

    Attributes:
        base: the option that names the base.
        write: (folder of the data, folder for train, validation and test files, number of training rows).
        metrics: how the CSV file calls a measure -> its name in metrics.json.
    """

    base: str
    write: Callable[[Path, Path, int], None]
    metrics: dict[str, str]
    recipe: dict[str, Any] = field(default_factory=dict)


def glue(subset: str, metrics: dict[str, str]) -> Task:
    """A GLUE task on the encoder."""

    def write(data: Path, target: Path, rows: int) -> None:
        table = shuffled(pyarrow.parquet.read_table(data / "glue" / subset / "train.parquet"))
        apart = min(_APART, len(table) // 5)
        pyarrow.parquet.write_table(table[:apart], target / "validation.parquet")
        pyarrow.parquet.write_table(table[apart : apart + rows], target / "train.parquet")
        test = pyarrow.parquet.read_table(data / "glue" / subset / "validation.parquet")
        pyarrow.parquet.write_table(test, target / "test.parquet")

    recipe = {
        "task": {"name": "glue", "subset": subset},
        "train": {"num_train_epochs": 4, "batch_size": 32, "warmup_ratio": 0.06},
    }
    return Task("encoder", write, metrics, recipe)


def write_e2e(data: Path, target: Path, rows: int) -> None:
    """1,000 training rows at most; 200 of the training file choose, and 300 of the test file are the test."""
    table = shuffled(pyarrow.parquet.read_table(data / "e2e_nlg" / "train.parquet"))
    pyarrow.parquet.write_table(table[:200], target / "validation.parquet")
    pyarrow.parquet.write_table(table[200 : 200 + min(rows, 1000)], target / "train.parquet")
    pyarrow.parquet.write_table(
        pyarrow.parquet.read_table(data / "e2e_nlg" / "test.parquet")[:300], target / "test.parquet"
    )


def write_arc_easy(data: Path, target: Path, rows: int) -> None:
    """1,000 training rows at most; 200 others choose, and 500 of the test file are the test."""
    folder = data / "commonsense" / "arc_easy"
    asked, tests = (json.loads((folder / f"{name}.json").read_text()) for name in ("train", "test"))
    for questions in (asked, tests):
        random.Random(0).shuffle(questions)
    splits = {"validation": asked[:200], "train": asked[200 : 200 + min(rows, 1000)], "test": tests[:500]}
    for name, part in splits.items():
        (target / f"{name}.json").write_text(json.dumps(part))


def write_json_answers(data: Path, target: Path, rows: int) -> None:
    """96 conversations at most; 32 others choose, and 16 others are the test."""
    talks = list(conversations(96 + 32 + 16))
    splits = {"train": talks[: min(rows, 96)], "validation": talks[96:128], "test": talks[128:]}
    for name, part in splits.items():
        lines = (json.dumps({"messages": talk}) + "\n" for talk in part)
        (target / f"{name}.jsonl").write_text("".join(lines))


def conversations(count: int) -> Iterator[list[dict[str, str]]]:
    """Orders in plain words, answered by one JSON object of six fields."""
    chance = random.Random(0)
    for number in range(count):
        name, place, item = chance.choice(_NAMES), chance.choice(_PLACES), chance.choice(_ITEMS)
        amount, gift, hour = chance.randint(1, 9), chance.random() < 0.5, chance.randint(8, 20)
        request = chance.choice(
            [
                f"{name} from {place} wants {amount} {item} at {hour}:00{', as a gift' if gift else ''}.",
                f"Please send {amount} {item} to {name} in {place}, {hour}:00{', gift wrapped' if gift else ''}.",
                f"Order: {item}, {amount} times, for {name}, {place}. Time {hour}:00.{' A gift.' if gift else ''}",
            ]
        )
        order = {"name": name, "city": place, "item": item, "amount": amount, "hour": hour, "gift": gift}
        yield [
            {"role": "user", "content": f"{request} Ticket {number}."},
            {"role": "assistant", "content": json.dumps(order)},
        ]


TASKS = {
    "CoLA": glue("cola", {"Matthews": "matthews_correlation"}),
    "MRPC": glue("mrpc", {"accuracy": "accuracy"}),
    "RTE": glue("rte", {"accuracy": "accuracy"}),
    "SST-2": glue("sst2", {"accuracy": "accuracy"}),
    "E2E NLG": Task(
        "decoder",
        write_e2e,
        {"loss": "loss", "BLEU": "BLEU"},
        {
            "task": {"name": "e2e"},
            "train": {"num_train_epochs": 1, "batch_size": 16, "warmup_ratio": 0.06},
            "eval": {"metrics": ["loss", "BLEU"], "generation": {"max_new_tokens": 80}},
        },
    ),
    "ARC-easy": Task(
        "decoder",
        write_arc_easy,
        {"accuracy": "likelihood_accuracy", "loss": "loss"},
        {
            "task": {"name": "commonsense", "subset": "arc_easy", "scoring": "likelihood"},
            "train": {"num_train_epochs": 1, "batch_size": 16, "warmup_ratio": 0.1},
            "eval": {"metric": "loss"},
        },
    ),
    "JSON answers": Task(
        "decoder",
        write_json_answers,
        {"loss": "loss"},
        {
            "task": {"name": "instruction", "template": "own"},
            "train": {"num_train_epochs": 3, "batch_size": 8, "warmup_ratio": 0.1, "lr_scheduler_type": "cosine"},
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores of methods at several learning rates.")
    parser.add_argument("file", type=Path, help="the CSV file that runs are added to")
    parser.add_argument("--encoder", default="", help="the base of CoLA, MRPC, RTE and SST-2")
    parser.add_argument("--decoder", default="", help="the base of E2E NLG, ARC-easy and JSON answers")
    parser.add_argument("--data", type=Path, required=True, help="the folder with glue, e2e_nlg and commonsense")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["RED", "RED++", "LoRA"])
    parser.add_argument(
        "--absolute", action="store_true", help="the published rates of RED and RED++, not relative ones"
    )
    parser.add_argument("--rates", nargs="+", type=float, help="default: a grid for each method")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--rows", type=int, default=2500, help="training rows at most")
    parser.add_argument("--keys", nargs="*", default=[], help="further recipe keys, KEY=VALUE")
    options = parser.parse_args()
    done = read_done(options.file)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.tasks:
            (Path(folder) / name).mkdir()
            TASKS[name].write(options.data, Path(folder) / name, options.rows)
        for seed, name, method in product(options.seeds, options.tasks, options.methods):
            task, rates = TASKS[name], "relative" if method.startswith("RED") and not options.absolute else "absolute"
            for rate in options.rates or RATES[method, rates]:
                key = (name, method, rates, f"{rate:g}", str(seed))
                if key in done:
                    continue
                base = str(Path(getattr(options, task.base)).resolve())
                keys = [*METHODS[method], f"train.rates={rates}", f"train.learning_rate={rate}", *options.keys]
                measured = run(task, base, Path(folder) / name, [*keys, f"train.seed={seed}"])
                for measure, values in measured.items():
                    row = dict(zip(FIELDS, (name, measure, *key[1:], *values), strict=True))
                    add_row(options.file, row)
                    print(*row.values(), flush=True)


def run(task: Task, base: str, folder: Path, keys: list[str]) -> dict[str, tuple[str, str]]:
    """Train and score by the commands, in this process.

    Returns:
        Measure -> its values on the rows set apart and on the test; an empty text where a split has none.
    """
    recipe, target = folder / "recipe.yaml", folder / "run"
    recipe.write_text(yaml.safe_dump({**task.recipe, "model": {"name_or_path": base}, "data": {"path": str(folder)}}))
    train = ["train", str(recipe), f"output.dir={target}", "eval.untuned=false", *keys]
    try:
        for command in (train, ["eval", str(target)]):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                app(command, standalone_mode=False)
        splits = json.loads((target / "metrics.json").read_text())["splits"]
    finally:
        shutil.rmtree(target, ignore_errors=True)
    return {
        measure: (cell(splits, "validation", name, measure), cell(splits, "test", name, measure))
        for measure, name in task.metrics.items()
    }


def cell(splits: dict[str, dict[str, float]], split: str, name: str, measure: str) -> str:
    """The value of a metric of a split as the CSV file has it."""
    value = splits.get(split, {}).get(name)
    return "" if value is None else f"{(100 if measure in _PERCENT else 1) * value:.4f}"


def shuffled(table: pyarrow.Table) -> pyarrow.Table:
    """The rows in an order that does not depend on the seed of a run."""
    order = list(range(len(table)))
    random.Random(0).shuffle(order)
    return table.take(order)


def read_done(file: Path) -> set[tuple[str, ...]]:
    """(task, method, rates, rate, seed) of the runs in the CSV file."""
    if not file.exists():
        return set()
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {(row["task"], row["method"], row["rates"], f"{float(row['rate']):g}", row["seed"]) for row in rows}


def add_row(file: Path, row: dict[str, str]) -> None:
    """Append one run to the CSV file."""
    new = not file.exists()
    with file.open("a", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
