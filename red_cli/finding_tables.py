"""What a scored split shows as rows and tables: the untuned score, the classes with their confusion, errors, notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_cli.errors import one_line
from red_cli.formatting import aligned
from red_cli.recipe.metric_names import stored_name
from red_cli.recipe.score_format import format_score, format_untuned_remark

MOST_CLASSES = 20  # rows of a table; of more classes the worst
_MOST_ERRORS = 3
_LONGEST_LABEL, _LONGEST_HEADING = 24, 12
_HEADING = ("class", "rows", "predicted", "precision", "recall", "F1")


def floor_rows(result: Mapping[str, Any], examples: int) -> list[tuple[str, str]]:
    """Findings to compare a split's score with: untuned, and by always answering the commonest label.

    Args:
        examples: the rows of the split that has an untuned score.
    """
    metric, rows = result["metric"], []
    name = stored_name(result, metric)
    untuned = result.get("untuned") or {}
    if metric in untuned:
        remark = format_untuned_remark(untuned, examples, result["parameters"]["head"])
        rows.append(("untuned", f"{format_score(metric, untuned[metric])}  {name} {remark}"))
    for split, found in (result.get("majority") or {}).items():
        if found is not None:
            label = one_line(found["label"], _LONGEST_LABEL)
            rows.append(("commonest", f"{format_score(metric, found[metric])}  {name} of always {label!r}, {split}"))
    return rows


def class_tables(result: Mapping[str, Any], width: int) -> list[list[list[str]]]:
    """The findings on classes as tables, one for each scored split, for a terminal of `width` columns."""
    confusion = result.get("confusion") or {}
    return [class_table(found, confusion.get(split), width) for split, found in (result.get("classes") or {}).items()]


def class_table(
    classes: Sequence[Mapping[str, Any]], confusion: Sequence[Sequence[int]] | None, width: int
) -> list[list[str]]:
    """A table of the classes of a scored split, heading first; of more than 20 classes the 20 of the lowest F1.

    The confusion matrix follows in the same rows if it fits into `width` columns, else the most frequent mistake.
    """
    chosen = list(range(len(classes)))
    if len(classes) > MOST_CLASSES:
        chosen = sorted(chosen, key=lambda index: (classes[index]["f1"], -classes[index]["rows"]))[:MOST_CLASSES]
    rows = [list(_HEADING), *(_scores(classes[index]) for index in chosen)]
    if confusion is None:
        return rows
    if len(chosen) == len(classes):
        headings = [f"as {one_line(each['label'], _LONGEST_HEADING)}" for each in classes]
        matrix = [headings, *([f"{count:,}" for count in line] for line in confusion)]
        wide = [[*scores, *counts] for scores, counts in zip(rows, matrix, strict=True)]
        if max(map(len, aligned(wide))) <= width:
            return wide
    mistakes = [_commonest_mistake(index, confusion[index], classes) for index in chosen]
    return [[*scores, last] for scores, last in zip(rows, ["mostly taken for", *mistakes], strict=True)]


def finding_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows with the most confident errors of each split, and the notes."""
    rows, more = [], False
    for kind in ("errors", "mistakes"):
        for errors in (result.get(kind) or {}).values():
            lines = map(_error, errors[:_MOST_ERRORS])
            rows += [("errors" if number == 0 else "", line) for number, line in enumerate(lines)]
            more = more or len(errors) > _MOST_ERRORS
    if more and result.get("limit") is None:  # an evaluation of the first rows alone writes no such file
        rows.append(("", f"more of them: {result['folder']}/predictions/errors.csv"))
    return [*rows, *(("note", note["text"]) for note in result.get("notes") or ())]


def _error(error: Mapping[str, Any]) -> str:
    """A wrong row on one line."""
    sure = f"{100 * error['probability']:.1f}% sure: " if "probability" in error else ""
    answers = f"{one_line(error['prediction'], _LONGEST_LABEL)!r}, not {one_line(error['label'], _LONGEST_LABEL)!r}"
    return f"{sure}{answers}, row {error['row']:,}: {one_line(error['text'])}"


def _scores(found: Mapping[str, Any]) -> list[str]:
    """A class's row of the table."""
    counts = [f"{found['rows']:,}", f"{found['predicted']:,}"]
    shares = [f"{100 * found[name]:.1f}" for name in ("precision", "recall", "f1")]
    return [one_line(found["label"], _LONGEST_LABEL), *counts, *shares]


def _commonest_mistake(index: int, counts: Sequence[int], classes: Sequence[Mapping[str, Any]]) -> str:
    """The class that a class is most often taken for, in the table of findings; empty if it never is."""
    count, other = max((count, -place) for place, count in enumerate(counts) if place != index)
    return f"{one_line(classes[-other]['label'], _LONGEST_LABEL)} {count:,}" if count else ""
