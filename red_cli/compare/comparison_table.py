"""The table of a comparison, made from the metrics in the run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from red_cli.compare.same_inputs import require_same_inputs
from red_cli.escape import markdown_code
from red_cli.files import write_json, write_text
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.metrics import format_score, headline_metrics, is_percentage, mean_and_spread
from red_cli.runs.folder import RunFolder

JSON_FILE, MARKDOWN_FILE = "comparison.json", "comparison.md"


def summarise(
    folder: Path,
    runs: Sequence[tuple[str, int, LoadedRecipe]],
    failed: list[dict[str, Any]],
    split: str,
    chose_best: str,
) -> dict[str, Any]:
    """Summarise a comparison: one row for each method, over its finished seeds.

    Args:
        split: the split that is compared.
        chose_best: whether "all", "some" or "none" of its rows selected the best evaluation.

    Returns:
        The content of comparison.json (docs/formats.md).
    """
    lost = {(entry["method"], entry["seed"]) for entry in failed}
    require_same_inputs([loaded for method, seed, loaded in runs if (method, seed) not in lost])
    found: dict[str, dict[int, dict[str, Any]]] = {method: {} for method, _, _ in runs}
    sizes: dict[str, int] = {}
    for method, seed, loaded in runs:
        if (method, seed) not in lost:
            run = RunFolder(loaded.run_folder)
            found[method][seed] = run.read_results()
            sizes[method] = sum(path.stat().st_size for path in run.adapter.glob("*.safetensors"))
    some = next((metrics for seeds in found.values() for metrics in seeds.values()), {})
    names = _common_metrics([metrics for seeds in found.values() for metrics in seeds.values()], split)
    rows = [_row(method, seeds, split, names, sizes[method]) for method, seeds in found.items() if seeds]
    return {
        "folder": str(folder),
        "task": some.get("task"),
        "base": some.get("base"),
        "base_parameters": some.get("parameters", {}).get("base"),
        "metrics": names,
        "split": split,
        "chose_best": chose_best,
        "examples": some.get("splits", {}).get(split, {}).get("examples"),
        "rows": rows,
        "failed": failed,
    }


def _common_metrics(runs: Sequence[dict[str, Any]], split: str) -> list[str]:
    """The headline metrics that all compared methods have."""
    headlines = [headline_metrics(metrics["metric"], metrics["splits"][split]) for metrics in runs]
    return [name for name in headlines[0] if all(name in names for names in headlines)] if headlines else []


def _row(
    method: str, seeds: dict[int, dict[str, Any]], split: str, names: Sequence[str], file_bytes: int
) -> dict[str, Any]:
    """One method's row of the comparison table: scores over seeds, parameters, time and memory."""
    first = next(iter(seeds.values()))
    scores = {}
    for name in names:
        values = {seed: metrics["splits"][split][name] for seed, metrics in seeds.items()}
        mean, spread = mean_and_spread(list(values.values()))
        scores[name] = {"mean": mean, "std": spread, "seeds": values}
    training = [metrics["training"] for metrics in seeds.values()]
    return {
        "method": method,
        "scores": scores,
        "trained_parameters": first["parameters"]["edited"],
        "head_parameters": first["parameters"]["head"],
        "learning_rates": {seed: metrics["learning_rate"] for seed, metrics in seeds.items()},
        "seconds_per_step": sum(run["seconds"] for run in training) / sum(run["steps"] for run in training),
        "peak_memory_bytes": max(run["peak_memory_bytes"] for run in training),
        "file_bytes": file_bytes,
    }


def tables_of(result: dict[str, Any]) -> list[list[list[str]]]:
    """The comparison as tables of text, each a heading and a row for each method.

    With several metrics the scores have their own table, so that both stay narrow; otherwise there is one table.
    """
    names = result["metrics"]
    several = len(names) > 1
    scores = [["method", *(names if several else ["score"])]]
    costs = [["method", "trained", "head", "rate", "ms/step", "memory", "file"]]
    for row in result["rows"]:
        scores.append([row["method"], *(_score_text(name, row["scores"][name], not several) for name in names)])
        costs.append(
            [
                row["method"],
                f"{row['trained_parameters']:,}",
                f"{row['head_parameters']:,}",
                _rates(sorted(set(row["learning_rates"].values()))),
                f"{row['seconds_per_step'] * 1000:,.0f}",
                _size(row["peak_memory_bytes"]),
                _size(row["file_bytes"]),
            ]
        )
    return [scores, costs] if several else [[[*left, *right[1:]] for left, right in zip(scores, costs, strict=True)]]


def _score_text(metric: str, score: dict[str, Any], counted: bool) -> str:
    """A mean score in the comparison table, with its deviation and, if asked for, its number of seeds."""
    spread = "" if score["std"] is None else f" ± {format_score(metric, score['std'])}"
    return f"{format_score(metric, score['mean'])}{spread}" + (f" ({len(score['seeds'])})" if counted else "")


def _rates(rates: list[float]) -> str:
    """The learning rates in the comparison table: the only one, or the lowest and the highest with one digit."""
    if len(rates) == 1:
        return f"{rates[0]:g}"
    lowest, highest = (f"{rate:.0e}".replace("e-0", "e-") for rate in (rates[0], rates[-1]))
    return lowest if lowest == highest else f"{lowest}…{highest}"


def _size(count: int) -> str:
    """A number of bytes in the largest unit in which it is at least 10."""
    power = next((power for power in (3, 2, 1) if count >= 10 * 1024**power), 0)
    return f"{count / 1024**power:,.0f}{('B', 'K', 'M', 'G')[power]}"


def score_note(result: dict[str, Any]) -> str:
    """A line for the comparison's table that names the task, metrics, split and rows of the scores."""
    share = {"all": "which", "some": "some of which", "none": ""}[result["chose_best"]]
    chosen = f", {share} also chose the best evaluation" if share else ""
    names = ", ".join(f"{name} x 100" if is_percentage(name) else name for name in result["metrics"])
    counts = sorted({len(row["scores"][name]["seeds"]) for row in result["rows"] for name in result["metrics"]})
    seeds = f", seeds: {' to '.join(map(str, counts))}" if len(result["metrics"]) > 1 else ""
    return f"{result['task']}: {names} on {result['split']}, {result['examples']:,} rows{chosen}{seeds}"


def write_comparison(folder: Path, result: dict[str, Any]) -> None:
    """Write comparison.json and comparison.md, each atomically."""
    write_json(folder / JSON_FILE, result)
    if not result["rows"]:
        return
    lines: list[str] = []
    for heading, *rows in tables_of(result):
        lines += ["| " + " | ".join(cells) + " |" for cells in (heading, ["---"] * len(heading), *rows)]
        lines.append("")
    notes = [
        f"{score_note(result)}. Mean ± sample standard deviation (number of seeds), never the best.",
        f"Base: {markdown_code(str(result['base']))}, {result['base_parameters']:,} parameters.",
        "trained: the method's own parameters; head: those that every method trains as well; rate: learning rate,",
        "the lowest and the highest of the seeds; ms/step: of training; memory: the peak of the run's own process (on",
        "a GPU: of what torch allocated there), the largest of the seeds; file: the tensors that are saved, in bytes.",
        *(f"{run['method']}, seed {run['seed']} failed." for run in result["failed"]),
    ]
    write_text(folder / MARKDOWN_FILE, "\n".join([*lines, *notes]) + "\n")
