"""The table of a comparison, made from the metrics in the run folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from red_cli.compare.grid import Setting
from red_cli.compare.paired_differences import FEWEST_SEEDS, signed_difference
from red_cli.recipe.metric_names import stored_title
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.score_format import displayed_score, format_scores, is_percentage

_NONE, _BEST = "-", "*"
_RATES = {
    "recipe": "the recipe's",
    "usual": "the method's usual one",
    "override": "as given",
    "search": "found by a search",
}
_SHOWN = 2  # seeds whose scores are both in the table


def tables_of(result: dict[str, Any]) -> list[list[list[str]]]:
    """The comparison as tables of text, each a heading and a row for each method and point of the grid.

    With several metrics or a grid the scores have their own table, so that both stay narrow; otherwise there is one.
    The differences by seed follow.
    """
    names, grid = result["metrics"], _grid_keys(result)
    apart = len(names) > 1 or bool(grid)
    headings = [stored_title(result, name) for name in names] if len(names) > 1 else ["score"]
    selection = [f"{_selection(result)['split']} {_selected_by(result)}"] if grid else []
    last = [key.rpartition(".")[2] for key in grid]
    scores = [["method", *last, *selection, *headings, *(["best"] if grid else [])]]
    costs = [["method", "trained", "head", "rate", "ms/step", "memory", "file"]]
    for row in result["rows"]:
        point = [_value(row["point"][key]) if key in row["point"] else "" for key in grid]
        chosen = [format_scores(row["selection"]["metric"], [*row["selection"]["seeds"].values()])] if grid else []
        own = [_score_text(name, row["scores"][name], not apart) for name in names]
        best = [_BEST if row["best_of_grid"] else ""] if grid else []
        scores.append([row["method"], *point, *chosen, *own, *best])
        costs.append(
            [
                row["name"] if grid else row["method"],
                f"{row['trained_parameters']:,}",
                f"{row['head_parameters']:,}",
                _rates(sorted({rate for rate in row["learning_rates"].values() if rate is not None})),
                _NONE if row["seconds_per_step"] is None else f"{row['seconds_per_step'] * 1000:,.0f}",
                _NONE if row["peak_memory_bytes"] is None else _size(row["peak_memory_bytes"]),
                _NONE if row["file_bytes"] is None else _size(row["file_bytes"]),
            ]
        )
    tables = [scores, costs] if apart else [[[*left, *right[1:]] for left, right in zip(scores, costs, strict=True)]]
    paired = difference_rows(result)
    return [*tables, paired] if paired else tables


def _grid_keys(result: dict[str, Any]) -> list[str]:
    """The keys of a comparison's grid, for the columns of the table."""
    return list(dict.fromkeys(key for row in result["rows"] for key in row["point"]))


def _value(value: Any) -> str:
    """A value of the grid in the comparison's table."""
    return Setting("", value).text


def _selection(result: dict[str, Any]) -> dict[str, Any]:
    """What selects evaluations, in a comparison's table with a grid."""
    selection: dict[str, Any] = result["rows"][0]["selection"]
    return selection


def _selected_by(result: dict[str, Any]) -> str:
    """The metric that selects evaluations, in words, for a comparison's table."""
    return stored_title(result, _selection(result)["metric"])


def _score_text(metric: str, score: dict[str, Any], counted: bool) -> str:
    """The scores of a row in the comparison table, with the number of seeds if it is asked for and not to be seen."""
    values = list(score["seeds"].values())
    return format_scores(metric, values) + (f" ({len(values)})" if counted and len(values) != _SHOWN else "")


def _rates(rates: list[float]) -> str:
    """The column `rate` of the comparison table: the only one, or the lowest and the highest with one digit."""
    if not rates:
        return _NONE
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
    titles = {name: stored_title(result, name) for name in result["metrics"]}
    names = ", ".join(f"{title} x 100" if is_percentage(name) else title for name, title in titles.items())
    counts = sorted({len(row["scores"][name]["seeds"]) for row in result["rows"] for name in result["metrics"]})
    seeds = f", seeds: {' to '.join(map(str, counts))}" if len(result["metrics"]) > 1 else ""
    return f"{result['task']}: {names} on {result['split']}, {result['examples']:,} rows{chosen}{seeds}"


def notes_of(result: dict[str, Any]) -> list[str]:
    """The lines below the comparison's table: what is scored, the rates, the untuned base, the choice from a grid."""
    notes = [score_note(result)]
    sources: dict[str, list[str]] = {}
    for row in result["rows"]:
        if row["rate_from"] in _RATES and row["method"] not in sources.get(_RATES[row["rate_from"]], []):
            sources.setdefault(_RATES[row["rate_from"]], []).append(row["method"])
    if sources:
        listed = [f"{', '.join(methods)}: {source}" for source, methods in sources.items()]
        notes.append(f"Rates: {'; '.join(listed)}")
    if any(row["method"] == UNTUNED for row in result["rows"]):
        head = ", with a random head that each seed draws" if result["new_head"] else ""
        notes.append(f"{UNTUNED}: the base before training{head}")
    if _grid_keys(result):
        selection = _selection(result)
        same = ", whose rows are scored as well" if selection["split"] == result["split"] else ""
        notes.append(
            f"{_BEST} best of its method's grid by the mean {_selected_by(result)} on {selection['split']}{same}"
        )
    if any(pair["interval"] for pair in result["differences"]):
        notes.append("95% interval: of the mean difference over seeds, by Student's t")
    return notes


def difference_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """The differences between the rows of a comparison, as text, with a heading that names the reference.

    Empty if no pair has two seeds.
    """
    rows = []
    for pair in result["differences"]:
        values = list(pair["seeds"].values())
        if len(values) > 1:
            both = len(values) < FEWEST_SEEDS
            shown = " / ".join(
                _difference_text(pair["metric"], value) for value in (values if both else [pair["mean"]])
            )
            ends = pair["interval"] and " to ".join(_difference_text(pair["metric"], end) for end in pair["interval"])
            rows.append([pair["row"], stored_title(result, pair["metric"]), shown, ends or "", str(len(values))])
    if not rows:
        return []
    reference = result["differences"][0]["minus"]
    return [[f"difference from {reference}", "metric", "mean", "95% interval", "seeds"], *rows]


def _difference_text(metric: str, difference: float) -> str:
    """A difference between rows, in the unit of the scores, as text."""
    return signed_difference(metric, displayed_score(metric, difference))
