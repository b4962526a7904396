"""A run's learning curve, from its log."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.errors import UserError


@dataclass(frozen=True)
class Curve:
    """What the log says, by optimiser step.

    Attributes:
        losses: (step, mean training loss since the line before).
        scores: (step, value of the metric that chose the best evaluation), as in metrics.json.
        split: the split that was scored; None where the log has no evaluation.
        metric: that metric's name.
    """

    metric: str
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    split: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "loss": [{"step": step, "value": value} for step, value in self.losses],
            "score": [{"step": step, "value": value} for step, value in self.scores],
            "metric": self.metric,
            "split": self.split,
        }


def read_curve(log: Path, metric: str) -> Curve:
    """Read log.jsonl; `metric` is the one that chose the best evaluation. Empty where there is no log.

    Raises:
        UserError: a line is damaged (its number is named).
    """
    losses, scores = [], []
    split, ending = None, f"_{metric}"
    for number, line in enumerate(_lines(log), start=1):
        try:
            values = json.loads(line)
            step = int(values["step"])
            losses += [(step, float(values["loss"]))] if "loss" in values else []
            for key in values:
                if key.endswith(ending):
                    split = key.removesuffix(ending)
                    scores.append((step, float(values[key])))
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{log}, line {number} is damaged", hint="Delete that line.") from None
    finite = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    return Curve(metric, finite, scores, split)


def _lines(log: Path) -> list[str]:
    if not log.is_file():
        return []
    text = log.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()]
