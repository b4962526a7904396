"""The learning curve of a run, read from its log."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.errors import UserError


@dataclass(frozen=True)
class Curve:
    """Losses and scores by optimiser step.

    Attributes:
        metric: the name of the metric that selects the best evaluation.
        split: the split on which it is computed.
        losses: (step, mean training loss since the previous log line).
        scores: (step, value of the metric in the unit of metrics.json).
    """

    metric: str
    split: str
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "loss": [{"step": step, "value": value} for step, value in self.losses],
            "score": [{"step": step, "value": value} for step, value in self.scores],
            "metric": self.metric,
            "split": self.split,
        }


def read_curve(log: Path, metric: str, split: str) -> Curve:
    """Read a log.jsonl. The curve is empty if the file does not exist; losses that are not finite are omitted.

    Args:
        metric: the metric that selects the best evaluation.
        split: the split on which it is computed.

    Raises:
        UserError: a line is damaged; the message gives its number.
    """
    losses, scores = [], []
    key = f"{split}_{metric}"
    for number, line in enumerate(_lines(log), start=1):
        try:
            values = json.loads(line)
            step = int(values["step"])
            losses += [(step, float(values["loss"]))] if "loss" in values else []
            scores += [(step, float(values[key]))] if key in values else []
        except (ValueError, TypeError, KeyError):
            raise UserError("file-damaged", f"{log}, line {number} is damaged", hint="Delete that line.") from None
    finite = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    return Curve(metric, split, finite, scores)


def _lines(log: Path) -> list[str]:
    """The lines of a run's training log that are not blank; empty if there is no log."""
    if not log.is_file():
        return []
    text = log.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()]
