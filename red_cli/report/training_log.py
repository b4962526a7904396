"""The learning curve and the samples of a run, read from its log."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.errors import UserError


@dataclass(frozen=True)
class Sample:
    """A fixed prompt as an evaluation in the training log answered it; `label` is the right answer if there is one."""

    prompt: str
    answer: str
    label: str | None


@dataclass(frozen=True)
class Curve:
    """Losses and scores by optimiser step.

    Attributes:
        metric: the name of the metric that selects the best evaluation.
        split: the split on which it is computed.
        losses: (step, mean training loss since the previous log line).
        scores: (step, value of the metric in the unit of metrics.json).
        samples: (step, the prompts of eval.samples with their answers).
        steps_per_epoch: None if the log does not say.
        untuned: the score before training; None if it is not known.
        title: the metric in words.
    """

    metric: str
    split: str
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    samples: list[tuple[int, list[Sample]]] = field(default_factory=list)
    steps_per_epoch: float | None = None
    untuned: float | None = None
    title: str = ""

    @property
    def all_scores(self) -> list[tuple[int, float]]:
        """The scores, and the untuned one as that of step 0 unless the log has it."""
        before = [] if self.untuned is None or any(step == 0 for step, _ in self.scores) else [(0, self.untuned)]
        return [*before, *self.scores]

    def to_json(self) -> dict[str, Any]:
        return {
            "loss": [{"step": step, "value": value} for step, value in self.losses],
            "score": [{"step": step, "value": value} for step, value in self.scores],
            "metric": self.metric,
            "split": self.split,
            "untuned": self.untuned,
            "samples": [{"step": step, "answers": [vars(sample) for sample in shown]} for step, shown in self.samples],
        }


def read_curve(log: Path, metric: str, split: str, untuned: float | None = None, title: str = "") -> Curve:
    """Read a log.jsonl. The curve is empty if the file does not exist; losses that are not finite are omitted.

    Args:
        metric: the metric that selects the best evaluation.
        split: the split on which it is computed.
        untuned: the score before training.
        title: the metric in words.

    Raises:
        UserError: a line is damaged; the message gives its number.
    """
    losses, scores, samples, epochs = [], [], [], []
    key = f"{split}_{metric}"
    for number, line in enumerate(_lines(log), start=1):
        try:
            values = json.loads(line)
            step = int(values["step"])
            losses += [(step, float(values["loss"]))] if "loss" in values else []
            scores += [(step, float(values[key]))] if key in values else []
            samples += [(step, _samples(values["samples"]))] if "samples" in values else []
            epochs += [(step, float(values["epoch"]))] if "epoch" in values else []
        except (ValueError, TypeError, KeyError):
            raise UserError("file-damaged", f"{log}, line {number} is damaged", hint="Delete that line.") from None
    finite = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    step, epoch = max(epochs, default=(0, 0.0))
    return Curve(metric, split, finite, scores, samples, step / epoch if epoch > 0 else None, untuned, title)


def _samples(content: list[dict[str, Any]]) -> list[Sample]:
    """The samples of one evaluation's log line."""
    return [Sample(str(each["prompt"]), str(each["answer"]), _text(each.get("label"))) for each in content]


def _text(value: Any) -> str | None:
    """A label of the training log as text; None if there is none."""
    return None if value is None else str(value)


def _lines(log: Path) -> list[str]:
    """The lines of a run's training log that are not blank; empty if there is no log."""
    if not log.is_file():
        return []
    text = log.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()]
