"""The answers to the rows of a file, and the columns that they become. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from red_cli.errors import UserError
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.base import LabelSettings
from red_cli.recipe.tasks.commonsense import CommonsenseSettings

PREDICTION, PROBABILITY, TEXT, PROBLEM = "prediction", "probability", "generated_text", "problem"


@dataclass(frozen=True)
class Answer:
    """The answer to a row.

    Attributes:
        prediction: a label, a number or a text; None if there is none.
        probabilities: of each label, in the order of label ids.
        text: the generated text that a label or a number was read from.
        problem: why there is no prediction, or what is to be said of it.
    """

    prediction: str | float | None = None
    probabilities: Sequence[float] | None = None
    text: str | None = None
    problem: str | None = None

    def with_remark(self, remark: str) -> Answer:
        """The answer with something to say of it, unless there is a problem already."""
        return self if self.problem else replace(self, problem=remark)

    def to_line(self) -> str:
        """The answer as a line of JSON."""
        values = [self.prediction, self.probabilities, self.text, self.problem]
        return json.dumps(values, ensure_ascii=True) + "\n"

    @classmethod
    def of_line(cls, line: str) -> Answer:
        """The answer in a line.

        Raises:
            ValueError: the line is not one of `to_line`.
        """
        values = json.loads(line)
        if not isinstance(values, list) or len(values) != 4:
            raise ValueError(line)
        return cls(*values)


@dataclass(frozen=True)
class Threshold:
    """Answers that are less probable than `least` are `unknown`."""

    least: float
    unknown: str


@dataclass(frozen=True)
class AnswerForm:
    """The columns of a task's answers.

    Attributes:
        label_names: of the probabilities; None: there are none.
        number: whether predictions are numbers.
        read: whether predictions are read from generated texts.
    """

    label_names: Sequence[str] | None
    number: bool
    read: bool

    @classmethod
    def of(cls, recipe: Recipe, label_names: Sequence[str] | None) -> AnswerForm:
        """The form of a recipe's answers; `label_names` are those of the trained model."""
        task = recipe.task
        labels = label_names if has_probabilities(recipe) else None
        read = isinstance(task, CommonsenseSettings) or (isinstance(task, LabelSettings) and task.writes_text)
        return cls(labels, task.is_regression, read)

    def columns(self) -> dict[str, type[str] | type[float]]:
        """The columns and the kind of their values."""
        found: dict[str, type[str] | type[float]] = {PREDICTION: float if self.number else str}
        found |= dict.fromkeys(self.probability_columns(), float)
        if self.read:
            found[TEXT] = str
        return {**found, PROBLEM: str}

    def probability_columns(self) -> list[str]:
        """The columns of probabilities: that of the predicted label, and those of all labels."""
        return [] if self.label_names is None else [PROBABILITY, *(f"p_{name}" for name in self.label_names)]

    def cells(self, answer: Answer, threshold: Threshold | None) -> list[Any]:
        """The cells of an answer, in the order of the columns."""
        given: Sequence[float | None] | None = answer.probabilities
        best = None if answer.probabilities is None else max(answer.probabilities)
        prediction = answer.prediction
        if threshold is not None and best is not None and best < threshold.least:
            prediction = threshold.unknown
        cells: list[Any] = [prediction]
        if self.label_names is not None:
            cells += [best, *(given or [None] * len(self.label_names))]
        if self.read:
            cells.append(answer.text)
        return [*cells, answer.problem]


def has_probabilities(recipe: Recipe) -> bool:
    """Whether answers are labels with probabilities: those of a head."""
    task = recipe.task
    return isinstance(task, LabelSettings) and not task.is_regression and not task.writes_text


def threshold_of(recipe: Recipe, least: float | None, unknown: str | None) -> Threshold | None:
    """The threshold below which answers are unknown; None if there is none.

    Raises:
        UserError: the answers of the task have no probabilities, or a name is given without a probability.
    """
    if least is None:
        if unknown is not None:
            raise UserError("invalid-option", "--unknown goes with --min-probability")
        return None
    if not has_probabilities(recipe):
        raise UserError(
            "invalid-option",
            f"--min-probability: the answers of the task {recipe.task.title} have no probabilities",
            hint="Those of a classification head have.",
        )
    return Threshold(least, "unknown" if unknown is None else unknown)


def kind_of_problem(problem: str) -> str:
    """What an answer's problem has in common with those of other answers: the words before its colon."""
    return problem.partition(": ")[0]
