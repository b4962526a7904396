"""Predict every row of a file, and write its rows with the predictions."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import red_cli
from red_cli.distributed.process_group import Processes
from red_cli.errors import Interrupted, UserError
from red_cli.files import replacing
from red_cli.inference.answers import Answer, AnswerForm, Threshold, kind_of_problem
from red_cli.inference.generate import ResumableOutput
from red_cli.inference.input_columns import InputColumns
from red_cli.inference.input_file import InputFile, InputPart
from red_cli.inference.output_file import new_names, opened_for_writing, write_rows
from red_cli.inference.partial_answers import PartialAnswers
from red_cli.inference.row_answers import RowPredictor
from red_cli.inference.runtime import join_for_inference, load_runtime
from red_cli.runs.events import Listener, NullListener
from red_cli.runs.folder import RunFolder
from red_cli.runs.load_opened import load_task
from red_cli.runs.open_trained import Opened
from red_cli.tasks.base import Encoder, Task
from red_cli.tasks.labels.task import LabelTask

_ROWS_NAMED = 5  # of those with the same problem


@dataclass(frozen=True)
class PredictionRequest:
    """What is to be predicted.

    Attributes:
        columns: those of the file that the model reads.
        output: the file to write; None: `stream`.
        form: the format of the output, one of FORMATS.
        threshold: answers that are less probable become another word.
        partial: the file that keeps the answers until all are there.
    """

    file: InputFile
    columns: InputColumns
    output: Path | None
    form: str
    threshold: Threshold | None
    partial: Path


def predict_file(opened: Opened, request: PredictionRequest, listener: Listener, stream: IO[bytes]) -> dict[str, Any]:
    """Predict every row of a file; its rows are written in their order, with the predictions in new columns.

    A row that cannot be encoded has no prediction, and its reason in the column `problem`. A stopped prediction
    resumes; the output appears only when all rows are there. Every rank predicts a share of the rows; rank 0 writes,
    and the others return an empty result.

    Returns:
        What was predicted: numbers of rows, labels and problems, the new columns, and the output.

    Raises:
        UserError: the model cannot be loaded, or another process predicts to the same output.
        Interrupted: the user stopped the prediction; the answers so far are kept if there is an output file.
    """
    file = request.file
    opened = _for_reading(opened, request.columns)
    processes = join_for_inference(opened.recipe, listener)
    if not processes.main:
        listener = NullListener()
    listener.status("loading the model")
    task, base = load_task(opened)
    label_names = _label_names(task, opened)
    encoder = task.bind(base, label_names)
    form = AnswerForm.of(opened.recipe, label_names)
    kept = PartialAnswers(request.partial, _subject(opened, request), file.sizes)
    done = processes.broadcast(kept.open() if processes.main else None)
    rows_before = sum(kept.sizes[:done])
    asked_again, seconds = 0, 0.0
    try:
        if done:
            listener.note(f"Resuming: {rows_before:,} of {file.rows:,} rows are already predicted.")
        if done < len(kept.sizes):
            asked_again, seconds = _predict_parts(opened, request, encoder, kept, done, listener, processes)
        if not processes.main:
            return {}
        listener.status("writing")
        summary = _Summary()
        lost = _write(request, form, kept, summary, stream)
        kept.remove()
    except KeyboardInterrupt:
        if request.output is None:
            raise
        raise Interrupted(
            "interrupted", f"stopped; {kept.path} keeps the finished rows", hint="Resume with the same command."
        ) from None
    finally:
        if processes.main:
            kept.release()
    named = dict(zip(form.columns(), new_names(file, list(form.columns())), strict=True))
    return {
        "rows": file.rows,
        **summary.to_json(form, request.threshold),
        "short_answers": form.label_names is not None or form.number or form.read,
        "columns": list(named.values()),
        "probability_columns": [named[name] for name in form.probability_columns()],
        "renamed": {name: new for name, new in named.items() if name != new},
        "resumed_rows": rows_before,
        "seconds": round(seconds, 4),
        "asked_again": asked_again,
        "not_in_format": lost,
        "output": None if request.output is None else str(request.output),
    }


def _for_reading(opened: Opened, columns: InputColumns) -> Opened:
    """The opened model with a recipe that reads the columns of the file, and refuses no row for its length."""
    assert opened.opened_recipe is not None
    recipe = opened.opened_recipe.recipe
    data = recipe.data.model_copy(update={"columns": columns.columns, "too_long": "cut"})
    changed = replace(opened.opened_recipe, recipe=recipe.model_copy(update={"data": data}))
    return replace(opened, opened_recipe=changed)


def _label_names(task: Task, opened: Opened) -> list[str] | None:
    """The label names of the training: the task's, or those that the run recorded; None if answers are no labels.

    Raises:
        UserError: nothing says the labels.
    """
    if not isinstance(task, LabelTask) or not task.target.needs_fit:
        return task.target.names if isinstance(task, LabelTask) else None
    recorded = RunFolder(opened.folder).read_metrics().get("inputs") or {}
    if not recorded.get("label_names"):
        raise UserError(
            "labels-mismatch", f"{opened.folder} does not say the labels of its training", hint="Name them: task.labels"
        )
    return list(recorded["label_names"])


def _subject(opened: Opened, request: PredictionRequest) -> str:
    """The digest of all on which predicting every row of a file depends: model, recipe, file and columns."""
    recipe = opened.recipe.model_dump(include={"task", "model", "data", "eval"}, mode="json")
    about = [red_cli.__version__, opened.identity, recipe, request.file.digest, dict(request.columns.read)]
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


def _predict_parts(
    opened: Opened,
    request: PredictionRequest,
    encoder: Encoder,
    kept: PartialAnswers,
    done: int,
    listener: Listener,
    processes: Processes,
) -> tuple[int, float]:
    """Predict the parts of the file after the first `done`.

    Returns:
        The number of conversations that ended with an answer, and the seconds that the predictions took.
    """
    file, first = request.file, sum(kept.sizes[:done])
    progress = _Progress(listener, first, file.rows)
    runtime = load_runtime(opened, encoder.base, progress, processes)
    predictor = RowPredictor(encoder, runtime, request.columns, str(file.path))
    identity, started = opened.identity, time.monotonic()
    with runtime.predicting():
        for part in islice(file.parts(), done, None):
            progress.begin(first, len(part))
            resumable = ResumableOutput(kept.texts, identity) if request.output is not None else None
            answers = predictor.answers(file.table(part, dict(request.columns.read)), resumable)
            if processes.main:
                kept.add(answers)
                kept.texts.unlink(missing_ok=True)
            first += len(part)
            progress.evaluating(len(part), len(part))
    return predictor.asked_again, time.monotonic() - started


def _write(
    request: PredictionRequest, form: AnswerForm, kept: PartialAnswers, summary: _Summary, stream: IO[bytes]
) -> list[str]:
    """Write the output whole; returns what its format could not hold."""
    columns = form.columns()
    new = dict(zip(new_names(request.file, list(columns)), columns.values(), strict=True))

    def answered() -> Iterator[tuple[InputPart, list[list[Any]]]]:
        answers = kept.read()
        for part in request.file.parts():
            cells = []
            for number in part.numbers:
                answer = next(answers)
                cells.append(form.cells(answer, request.threshold))
                summary.add(number, answer, cells[-1][0])
            yield part, cells

    if request.output is None:
        return write_rows(request.file, new, answered(), request.form, stream)
    with replacing(request.output) as temporary, opened_for_writing(temporary, request.output.name) as target:
        return write_rows(request.file, new, answered(), request.form, target)


class _Summary:
    """Counts of what was predicted."""

    def __init__(self) -> None:
        self.predicted = 0
        self.changed = 0
        self.predictions: Counter[Any] = Counter()
        self.least = self.most = self.total = 0.0
        self.problems: dict[tuple[str, bool], list[int]] = {}

    def add(self, number: int, answer: Answer, shown: Any) -> None:
        """Count the answer to a row; `shown` is its prediction in the output."""
        there = answer.prediction is not None
        if answer.problem is not None:
            self.problems.setdefault((kind_of_problem(answer.problem), there), []).append(number)
        if not there:
            return
        self.predicted += 1
        self.changed += shown != answer.prediction
        if isinstance(answer.prediction, float | int):
            first = self.predicted == 1
            self.least = answer.prediction if first else min(self.least, answer.prediction)
            self.most = answer.prediction if first else max(self.most, answer.prediction)
            self.total += answer.prediction
        elif answer.text is not None or answer.probabilities is not None:
            self.predictions[shown] += 1

    def to_json(self, form: AnswerForm, threshold: Threshold | None) -> dict[str, Any]:
        """The counts as plain data."""
        problems = [
            {"reason": reason, "rows": len(rows), "first_rows": rows[:_ROWS_NAMED], "predicted": there}
            for (reason, there), rows in self.problems.items()
        ]
        numbers = None
        if form.number and self.predicted:
            numbers = {"min": self.least, "mean": self.total / self.predicted, "max": self.most}
        return {
            "predicted": self.predicted,
            "labels": dict(self.predictions.most_common()),
            "numbers": numbers,
            "threshold": None if threshold is None else asdict(threshold),
            "below_threshold": None if threshold is None else self.changed,
            "problems": problems,
        }


class _Progress(NullListener):
    """Reports the progress within the whole file for that within a part."""

    def __init__(self, listener: Listener, first: int, total: int) -> None:
        self._listener, self._first, self._rows, self._total = listener, first, 0, total

    def note(self, text: str) -> None:
        self._listener.note(text)

    def begin(self, first: int, rows: int) -> None:
        """A part of `rows` rows begins."""
        self._first, self._rows = first, rows
        self.evaluating(0, rows)

    def evaluating(self, done: int, total: int) -> None:
        self._listener.predicting(self._first + round(done / max(total, 1) * self._rows), self._total)

    def decoding(self, done: int, total: int, tokens: int) -> None:
        self.evaluating(done, total)
