"""The wrong rows of a split, the most confident first, and their file predictions/errors.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.files import write_text
from red_cli.formatting import beginning
from red_cli.tasks.base import Encoder, Prediction, Task
from red_cli.tasks.data.csv_file import LONGEST_CELL
from red_cli.tasks.data.rows import Rows

MOST_SHOWN = 10  # errors in metrics.json
MOST_RESIDUALS = 100  # numbers are hardly ever exact: the largest residuals are kept
_LONGEST_TEXT = 500  # characters of a text in metrics.json
_EXACT = ("exact_match", "accuracy")  # metrics that call each text right or wrong
_COLUMNS = ("split", "row", "label", "prediction", "probability", "residual")


@dataclass(frozen=True)
class WrongRow:
    """A row that was predicted wrongly, or a number that is far off.

    Attributes:
        row: its number in its file, from 1.
        texts: column -> text, of the columns that the task reads.
        residual: prediction minus label, of a number.
    """

    row: int
    texts: dict[str, str]
    label: str
    prediction: str
    probability: float | None = None
    residual: float | None = None


def wrong_rows(
    task: Task,
    encoder: Encoder,
    label_names: list[str] | None,
    rows: Rows,
    predictions: Sequence[Prediction],
) -> list[WrongRow] | None:
    """The rows of the errors file, the most confident first; of numbers those with the largest residuals.

    None for texts unless the task's metric calls each of them right or wrong.
    """
    numbers = label_names is None and all(isinstance(answer.label, float) for answer in predictions)
    if label_names is None and not numbers and task.metric not in _EXACT:
        return None
    if numbers:
        order = sorted(range(len(predictions)), key=lambda index: -abs(_residual(predictions[index])))[:MOST_RESIDUALS]
    else:
        right = _right_answers(predictions)
        wrong = [index for index, answer in enumerate(predictions) if _key(answer.prediction) not in right[index]]
        order = sorted(wrong, key=lambda index: -(predictions[index].probability or 0.0))
    chosen = rows.take(order)
    prompted = bool(order) and predictions[0].prompt is not None
    if prompted:
        columns = {"prompt": [predictions[index].prompt or "" for index in order]}
    else:
        columns = {name: _texts(chosen, name) for name in encoder.text_columns(rows)}
    found = []
    for place, index in enumerate(order):
        answer = predictions[index]
        given = answer.text if answer.prediction is None else answer.prediction
        found.append(
            WrongRow(
                row=rows.number(index),
                texts={"prompt": answer.prompt or ""}
                if prompted
                else {name: column[place] for name, column in columns.items()},
                label=_written(answer.label),
                prediction="" if given is None else _written(given),
                probability=answer.probability,
                residual=_residual(answer) if numbers else None,
            )
        )
    return found


def shown_errors(errors: Sequence[WrongRow]) -> list[dict[str, Any]]:
    """The first rows of the errors file for metrics.json: long texts cut, no probabilities where there are none."""
    return [
        {
            "row": error.row,
            "text": beginning(" | ".join(error.texts.values()), _LONGEST_TEXT),
            "label": beginning(error.label, _LONGEST_TEXT),
            "prediction": beginning(error.prediction, _LONGEST_TEXT),
            **({} if error.probability is None else {"probability": error.probability}),
        }
        for error in errors[:MOST_SHOWN]
    ]


def write_errors(path: Path, split: str, errors: Sequence[WrongRow]) -> None:
    """Write the errors of a split to errors.csv; those of other splits in the file stay."""
    kept = [line for line in _read(path) if line.get("split") != split]
    lines: list[dict[str, Any]] = [
        {
            "split": split,
            "row": error.row,
            # A text column may have the name of one of ours
            **{f"{name} (text)" if name in _COLUMNS else name: text for name, text in error.texts.items()},
            "label": error.label,
            "prediction": error.prediction,
            "probability": error.probability,
            "residual": error.residual,
        }
        for error in errors
    ]
    names = dict.fromkeys(name for line in (*kept, *lines) for name in line if name not in _COLUMNS)
    used = [name for name in _COLUMNS[4:] if any(line.get(name) not in (None, "") for line in (*kept, *lines))]
    written = io.StringIO()
    header = [*_COLUMNS[:2], *names, *_COLUMNS[2:4], *used]
    writer = csv.DictWriter(written, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*kept, *lines])
    write_text(path, written.getvalue())


def _read(path: Path) -> list[dict[str, str]]:
    """The lines of an earlier errors.csv; none if there is no such file, or it is damaged."""
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [line for line in csv.DictReader(file) if None not in line and None not in line.values()]
    except (OSError, ValueError, csv.Error):
        return []


def _right_answers(predictions: Sequence[Prediction]) -> list[set[str | None]]:
    """The right answers of each row of the errors file: its label, and those of the rows with the same prompt."""
    by_prompt: dict[str | None, set[str | None]] = {}
    for answer in predictions:
        by_prompt.setdefault(answer.prompt, set()).add(_key(answer.label))
    return [{_key(answer.label)} if answer.prompt is None else by_prompt[answer.prompt] for answer in predictions]


def _key(value: Any) -> str | None:
    """An answer for comparison: spaces around a text do not count."""
    return None if value is None else _written(value).strip()


def _residual(answer: Prediction) -> float:
    """Prediction minus label, which orders errors of numbers; a text that is no number is as far off as can be."""
    if answer.prediction is None:
        return float("inf")
    return float(answer.prediction) - float(answer.label or 0.0)


def _texts(rows: Rows, name: str) -> list[str]:
    """A column's values as text."""
    return [value if isinstance(value, str) else _written(value) for value in rows.column(name)]


def _written(value: Any) -> str:
    """A label, number or other value as text."""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
