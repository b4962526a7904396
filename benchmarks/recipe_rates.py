"""Validation losses of bundled recipes on another base than theirs, at several relative learning rates.

    python benchmarks/recipe_rates.py --model FOLDER --data FOLDER [--recipes instruction alpaca]
        [--rates 0.015 0.05 0.15] [--steps 24]

Each run takes steps of 8 rows. Data are E2E NLG (DATA/e2e_nlg), ARC-easy (DATA/commonsense) and the JSON answers of
rates.py, in the form that the recipe reads.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet
from measuring import parser_for
from rates import conversations, write_arc_easy, write_e2e

from red_cli.cli import app

_ROWS = {"train": 192, "validation": 32}
_OWN_SPLIT = "data.validation_share=null"


@dataclass(frozen=True)
class Recipe:
    """The data that a recipe reads, written to a folder, and keys that these data need."""

    write: Callable[[Path, Path], None]
    keys: list[str] = field(default_factory=list)


def written_talks(row: Callable[[list[dict[str, str]]], dict[str, Any]]) -> Callable[[Path, Path], None]:
    """A writer of the JSON answers, each conversation as one row."""

    def write(data: Path, target: Path) -> None:
        talks = conversations(sum(_ROWS.values()))
        for split, count in _ROWS.items():
            write_lines(target, split, (row(next(talks)) for _ in range(count)))

    return write


def write_pairs(data: Path, target: Path) -> None:
    """E2E NLG as prompts and completions."""
    write_e2e(data, target, _ROWS["train"])
    for split in _ROWS:
        rows = pyarrow.parquet.read_table(target / f"{split}.parquet").to_pylist()
        names = ("meaning_representation", "human_reference")
        write_lines(target, split, ({"prompt": row[names[0]], "completion": row[names[1]]} for row in rows))
    for file in target.glob("*.parquet"):
        file.unlink()


def write_lines(target: Path, split: str, rows: Iterator[dict[str, Any]]) -> None:
    """A JSONL file of rows."""
    (target / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


RECIPES = {
    "instruction": Recipe(written_talks(lambda talk: {"messages": talk})),
    "alpaca": Recipe(
        written_talks(lambda talk: {"instruction": talk[0]["content"], "input": "", "output": talk[1]["content"]}),
        [_OWN_SPLIT],
    ),
    "ultrafeedback": Recipe(
        written_talks(lambda talk: {"prompt": talk[0]["content"], "chosen": talk}), [_OWN_SPLIT, "train.rates=relative"]
    ),
    "generation": Recipe(write_pairs),
    "e2e_nlg": Recipe(
        lambda data, target: write_e2e(data, target, _ROWS["train"]), ["train.rates=relative", "train.warmup_steps=2"]
    ),
    "commonsense_arc_easy": Recipe(
        lambda data, target: write_arc_easy(data, target, _ROWS["train"]),
        [_OWN_SPLIT, "task.scoring=likelihood", "eval.metric=loss"],
    ),
}


def loss_of(name: str, model: str, data: Path, keys: list[str]) -> float:
    """The validation loss of a run by a bundled recipe."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "data"
        target.mkdir()
        RECIPES[name].write(data, target)
        run = Path(folder) / "run"
        fixed = [f"model.name_or_path={model}", "model.dtype=float32", f"data.path={target}", f"output.dir={run}",
                 "eval.untuned=false", "train.batch_size=8", "train.bf16=true"]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            app(["train", name, *fixed, *RECIPES[name].keys, *keys], standalone_mode=False)
        return float(json.loads((run / "metrics.json").read_text())["splits"]["validation"]["loss"])


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--model", required=True, help="the folder of a decoder")
    parser.add_argument("--data", type=Path, required=True, help="the folder with e2e_nlg and commonsense")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.015, 0.05, 0.15])
    parser.add_argument("--steps", type=int, default=24)
    options = parser.parse_args()
    model = str(Path(options.model).resolve())
    for name in options.recipes:
        for rate in options.rates:
            keys = [f"train.max_steps={options.steps}", f"train.learning_rate={rate}"]
            print(f"{name:24}{rate:8g}{loss_of(name, model, options.data, keys):10.4f}", flush=True)


if __name__ == "__main__":
    main()
