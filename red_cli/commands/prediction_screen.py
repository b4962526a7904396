"""The screen of `red predict`: the answers to texts, and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_cli import console
from red_cli.formatting import beginning, number_of, speed_text

_SHORTEST_TEXT = 20  # columns of a text in the table
_MOST_LABELS = 8  # that the summary names


def prediction_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary of a prediction, as rows of label and value."""
    total, predicted = result["rows"], result["predicted"]
    rows = [] if result["output"] is None else [("written", result["output"])]
    rows.append(("rows", f"{total:,}, all predicted" if predicted == total else f"{total:,}, {predicted:,} predicted"))
    if labels := result["labels"]:
        named = [f"{name} {count:,}" for name, count in list(labels.items())[:_MOST_LABELS]]
        more = f", and {len(labels) - len(named)} more" if len(labels) > len(named) else ""
        rows.append(("labels", f"{', '.join(named)}{more}"))
    if numbers := result["numbers"]:
        least, mean, most = (f"{numbers[name]:.4g}" for name in ("min", "mean", "max"))
        rows.append(("numbers", f"{least} to {most}, mean {mean}"))
    if result["below_threshold"]:
        rows.append(("less probable", f"{result['below_threshold']:,} became {result['threshold']['unknown']}"))
    for there, label in ((False, "not predicted"), (True, "note")):
        rows += [(label, _reason_text(each)) for each in result["problems"] if each["predicted"] == there]
    if result["asked_again"]:
        rows.append(("note", f"{result['asked_again']:,} ended with an answer of the assistant, which is not read"))
    rows += [("note", f"the file has a column {name}; the new one is {new}") for name, new in result["renamed"].items()]
    rows += [("note", line) for line in result["not_in_format"]]
    done = total - result["resumed_rows"]
    if done and result["seconds"]:
        rows.append(("speed", speed_text(done / result["seconds"], "rows")))
    return rows


def _reason_text(problem: Mapping[str, Any]) -> str:
    """How the screen of `red predict` shows a problem: its reason, the number of rows and the first of them."""
    first, count = problem["first_rows"], problem["rows"]
    numbers = ", ".join(map(str, first)) + (", …" if count > len(first) else "")
    return f"{problem['reason']}: {number_of(count, 'row')} ({numbers})"


def print_answers(rows: Sequence[dict[str, Any]], read: Mapping[str, str], result: dict[str, Any]) -> None:
    """Print the answers to texts: labels and numbers as a table, generated texts one after another."""
    new = result["columns"]
    prediction, problem = new[0], new[-1]
    text = next(iter(read.values()))
    if not result["short_answers"]:
        for row in rows:
            console.print_heading(str(row[text]))
            console.print_text(f"({row[problem]})" if row[prediction] is None else str(row[prediction]))
            console.print_text()
        return
    probabilities = result["probability_columns"]
    room = console.width()
    cells = [["text", prediction, *probabilities]]
    for row in rows:
        numbers = ["" if row[name] is None else f"{row[name]:.3f}" for name in probabilities]
        given = f"({row[problem]})" if row[prediction] is None else str(row[prediction])
        cells.append([" ".join(str(row[text]).split()), given, *numbers])
    while len(cells[0]) > 3 and sum(max(map(len, each)) + 2 for each in list(zip(*cells, strict=True))[1:]) > room / 2:
        cells = [row[:-1] for row in cells]
    taken = sum(max(map(len, each)) + 2 for each in list(zip(*cells, strict=True))[1:])
    longest = max(_SHORTEST_TEXT, room - taken)
    console.print_columns([[beginning(row[0], longest), *row[1:]] for row in cells])
