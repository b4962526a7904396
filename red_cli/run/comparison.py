"""The table of a comparison, from the run folders' metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from red_cli.files import write_json, write_text
from red_cli.recipe.load import Loaded
from red_cli.run.evaluate import default_split
from red_cli.run.folder import RunFolder
from red_cli.run.statistics import mean_and_spread

JSON_FILE, MARKDOWN_FILE = "comparison.json", "comparison.md"
_PERCENT = 100.0


def summarise(folder: Path, runs: Sequence[tuple[str, int, Loaded]], failed: list[dict[str, Any]]) -> dict[str, Any]:
    """One row for each method, over its finished seeds.

    Returns:
        The content of comparison.json (docs/formats.md).
    """
    split, chose_best = default_split(runs[0][2].recipe)
    lost = {(entry["method"], entry["seed"]) for entry in failed}
    found: dict[str, dict[int, dict[str, Any]]] = {method: {} for method, _, _ in runs}
    sizes: dict[str, int] = {}
    for method, seed, loaded in runs:
        if (method, seed) not in lost:
            run = RunFolder(loaded.run_folder)
            found[method][seed] = run.read_metrics()
            sizes[method] = sum(path.stat().st_size for path in run.adapter.glob("*.safetensors"))
    rows = [_row(method, seeds, split, sizes[method]) for method, seeds in found.items() if seeds]
    some = next((metrics for seeds in found.values() for metrics in seeds.values()), {})
    return {
        "folder": str(folder),
        "task": some.get("task"),
        "base": some.get("base"),
        "base_parameters": some.get("parameters", {}).get("base"),
        "metric": some.get("metric"),
        "split": split,
        "chose_best": chose_best,
        "examples": some.get("splits", {}).get(split, {}).get("examples"),
        "rows": rows,
        "failed": failed,
    }


def _row(method: str, seeds: dict[int, dict[str, Any]], split: str, file_bytes: int) -> dict[str, Any]:
    first = next(iter(seeds.values()))
    scores = {seed: metrics["splits"][split][metrics["metric"]] for seed, metrics in seeds.items()}
    mean, spread = mean_and_spread(list(scores.values()))
    training = [metrics["training"] for metrics in seeds.values()]
    return {
        "method": method,
        "mean": mean,
        "std": spread,
        "seeds": scores,
        "trained_parameters": first["parameters"]["edited"],
        "head_parameters": first["parameters"]["head"],
        "learning_rates": {seed: metrics["learning_rate"] for seed, metrics in seeds.items()},
        "seconds_per_step": sum(run["seconds"] for run in training) / sum(run["steps"] for run in training),
        "peak_memory_bytes": max(run["peak_memory_bytes"] for run in training),
        "file_bytes": file_bytes,
    }


def table(result: dict[str, Any]) -> list[list[str]]:
    """The comparison as text: a heading, then one row for each method."""
    heading = ["method", "score", "trained", "head", "rate", "ms/step", "memory", "file"]
    rows = []
    for row in result["rows"]:
        spread = "" if row["std"] is None else f" ± {row['std'] * _PERCENT:.2f}"
        rows.append(
            [
                row["method"],
                f"{row['mean'] * _PERCENT:.2f}{spread} ({len(row['seeds'])})",
                f"{row['trained_parameters']:,}",
                f"{row['head_parameters']:,}",
                _rates(sorted(set(row["learning_rates"].values()))),
                f"{row['seconds_per_step'] * 1000:,.0f}",
                _size(row["peak_memory_bytes"]),
                _size(row["file_bytes"]),
            ]
        )
    return [heading, *rows]


def _rates(rates: list[float]) -> str:
    """The one rate, or roughly the lowest and the highest."""
    if len(rates) == 1:
        return f"{rates[0]:g}"
    lowest, highest = (f"{rate:.0e}".replace("e-0", "e-") for rate in (rates[0], rates[-1]))
    return lowest if lowest == highest else f"{lowest}…{highest}"


def _size(count: int) -> str:
    """Bytes in the largest unit that leaves a whole number."""
    power = next((power for power in (3, 2, 1) if count >= 10 * 1024**power), 0)
    return f"{count / 1024**power:,.0f}{('B', 'K', 'M', 'G')[power]}"


def score_note(result: dict[str, Any]) -> str:
    """What the scores are of."""
    share = {"all": "which", "some": "some of which", "none": ""}[result["chose_best"]]
    chosen = f", {share} also chose the best evaluation" if share else ""
    return f"{result['task']}: {result['metric']} x 100 on {result['split']}, {result['examples']:,} rows{chosen}"


def write_comparison(folder: Path, result: dict[str, Any]) -> None:
    """Write comparison.json and comparison.md, each whole or not at all."""
    write_json(folder / JSON_FILE, result)
    if not result["rows"]:
        return
    heading, *rows = table(result)
    lines = ["| " + " | ".join(cells) + " |" for cells in (heading, ["---"] * len(heading), *rows)]
    notes = [
        f"{score_note(result)}. Mean ± sample standard deviation (number of seeds), never the best.",
        f"Base: `{result['base']}`, {result['base_parameters']:,} parameters.",
        "trained: the method's own parameters; head: those that every method trains beside them; rate: learning rate,",
        "the lowest and the highest of the seeds; ms/step: of training; memory: the peak of the run's own process (on",
        "a GPU: of what torch allocated there), the largest of the seeds; file: the tensors that are saved, in bytes.",
        *(f"{run['method']}, seed {run['seed']} failed." for run in result["failed"]),
    ]
    write_text(folder / MARKDOWN_FILE, "\n".join([*lines, "", *notes]) + "\n")
