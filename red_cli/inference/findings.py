"""What the predictions of a scored split show besides its scores: classes, confusion, errors, and facts for notes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from red_cli.inference.errors_file import WrongRow, shown_errors, wrong_rows
from red_cli.runs.result_notes import SplitFacts
from red_cli.tasks.base import Encoded, Encoder, Prediction, Task
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.labels.metrics import class_scores, confusion_matrix, majority_score

MOST_IN_MATRIX = 100  # classes; a matrix of more would be larger than all else in metrics.json
_SHARES = ("accuracy", "exact_match")
_LOSS = "loss"


@dataclass(frozen=True)
class Findings:
    """What a split shows.

    Attributes:
        content: the parts of metrics.json for the split: "classes", "confusion", "majority", and "errors", or
            "mistakes" where there are no probabilities; absent where the task has none.
        errors: all wrong rows, or those with the largest residuals, for errors.csv; None if the task has no such thing.
        facts: for notes.
    """

    content: dict[str, Any]
    errors: list[WrongRow] | None
    facts: SplitFacts

    def to_json(self) -> dict[str, Any]:
        """The parts of metrics.json, each by the split."""
        return {name: {self.facts.split: value} for name, value in self.content.items()}


def find(
    task: Task,
    encoder: Encoder,
    label_names: list[str] | None,
    rows: Rows,
    encoded: Encoded,
    predictions: Sequence[Prediction],
    scores: Mapping[str, float],
    split: str,
) -> Findings:
    """Look through the predictions of a split.

    Args:
        label_names: in the order of class ids; None if answers are numbers or texts.
        rows, encoded: the rows that were predicted, in the predictions' order.
        scores: the split's scores; empty if it has no labels.
    """
    texts = [answer.prediction for answer in predictions if answer.prompt is not None and answer.prediction is not None]
    content: dict[str, Any] = {}
    errors, predicted, majority = None, dict[str, int](), None
    if scores:
        errors = wrong_rows(task, encoder, label_names, rows, predictions)
        if label_names is not None:
            classes = class_scores(predictions, label_names)
            content["classes"] = [asdict(each) for each in classes]
            predicted = {each.label: each.predicted for each in classes if each.rows}
            found = majority_score(task, task.metric, predictions, label_names)
            majority = None if found is None else (found.label, found.value)
            content["majority"] = None if found is None else {"label": found.label, task.metric: found.value}
            if len(label_names) <= MOST_IN_MATRIX:
                content["confusion"] = confusion_matrix(predictions, label_names).tolist()
        if errors is not None:
            # With no error at all, the predictions say whether there are probabilities
            sure = all(each.probability is not None for each in errors or predictions)
            content["errors" if sure else "mistakes"] = shown_errors(errors)
    facts = SplitFacts(
        split=split,
        rows=len(predictions),
        value=scores.get(task.metric),
        predicted=predicted,
        majority=majority,
        share=next(((name, scores[name]) for name in _SHARES if name in scores), None),
        spread=_spread(predictions) if task.metric == _LOSS and scores else None,
        truncated=encoded.truncated,
        ends_cut=encoded.ends_cut,
        answers=len(texts),
        empty=sum(not str(text).strip() for text in texts),
    )
    return Findings(content, errors, facts)


def _spread(predictions: Sequence[Prediction]) -> float | None:
    """A finding on predictions: the standard deviation of their mean losses; None of fewer than two rows."""
    means = [answer.loss / answer.tokens for answer in predictions if answer.loss is not None and answer.tokens]
    return statistics.stdev(means) if len(means) > 1 else None
