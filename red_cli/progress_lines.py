"""The lines that show the progress of a run: steps, evaluations, answered samples, and when a further one is due."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from red_cli.errors import one_line
from red_cli.formatting import duration, shortened, speed_text
from red_cli.recipe.score_format import format_score

if TYPE_CHECKING:
    from red_cli.train.events import Evaluation, Sample, Step

_LEAST_SECONDS = 10.0  # between two plain lines of progress
_MOST_SECONDS = 300.0  # without a plain line of progress
_LINES = 20  # of progress, if less time than that lies between them
UNKNOWN_TIME = "time left: not known"
_GAP = "  "
_SAMPLE_PARTS = ("prompt", "answer", "label")
_PART_WIDTH = 2 + max(map(len, _SAMPLE_PARTS)) + len(_GAP)


class Pace:
    """When a further plain line of progress is due, so that there is neither a flood of lines nor silence."""

    def __init__(self) -> None:
        self._printed = time.monotonic()
        self.restart(0, 0)

    def restart(self, counted_from: int, timed_from: int) -> None:
        """Begin another piece of work: lines count from one number of done items, the time left from another."""
        self._counted_from, self._timed_from = counted_from, timed_from
        self._started = time.monotonic()

    def printed(self) -> None:
        """Some line was printed, after which a line of progress can wait."""
        self._printed = time.monotonic()

    def is_due(self, done: int, total: int) -> bool:
        """Whether to print a line at `done` of `total`; if so, it counts as printed."""
        since = time.monotonic() - self._printed
        if since < _LEAST_SECONDS or (done - self._counted_from < total / _LINES and since < _MOST_SECONDS):
            return False
        self._counted_from = done
        self.printed()
        return True

    def left(self, done: int, total: int) -> str:
        """The time left in words, by the speed so far."""
        done_since = done - self._timed_from
        return f"{duration(self.seconds / done_since * (total - done))} left" if done_since > 0 else UNKNOWN_TIME

    def per_second(self, done: int) -> float:
        """The items of a second, by the speed so far; 0 before the first."""
        return (done - self._timed_from) / max(self.seconds, 1e-9)

    @property
    def seconds(self) -> float:
        """The time since the work began."""
        return time.monotonic() - self._started


def step_fields(step: Step) -> list[str]:
    """The figures of a step in the order of their use: the last one is left out first where a line is short."""
    speed = (step.examples_per_second, "rows") if step.tokens_per_second is None else (step.tokens_per_second, "tokens")
    runs = [f"{step.runs} runs"] if step.runs > 1 else []
    figures = [f"epoch {step.epoch:.2f}", f"loss {step.loss:.4f}", speed_text(*speed), f"lr {step.learning_rate:.1e}"]
    return [*runs, *figures]


def evaluation_fields(evaluation: Evaluation) -> list[str]:
    """The fields of a progress line on an evaluation: epoch, step, loss, and metrics, the selecting one first."""
    run = [] if evaluation.run is None else [evaluation.run]
    fields = [*run, f"epoch {evaluation.epoch:.2f}", f"step {evaluation.step}/{evaluation.total_steps}"]
    if evaluation.training_loss is not None:
        fields.append(f"loss {evaluation.training_loss:.4f}")
    scores = {evaluation.metric: evaluation.value, **evaluation.scores}
    for metric, value in scores.items():
        if "." in metric:  # the score of a part
            continue
        name = evaluation.names.get(metric, metric).removesuffix("_correlation")
        name = f"validation {name}" if name == "loss" else name  # unlike the training loss
        best = " (best)" if evaluation.best and metric == evaluation.metric else ""
        fields.append(f"{name} {format_score(metric, value)}{best}")
    return fields


def sample_lines(samples: Sequence[Sample], width: int) -> list[str]:
    """A line of at most `width` characters for each part of the samples; of a long prompt its end."""
    lines = []
    for sample in samples:
        for part in _SAMPLE_PARTS:
            if (text := getattr(sample, part)) is not None:
                room = max(width - _PART_WIDTH, 1)
                text = " ".join(text.split())
                lines.append(f"  {part:<6}{_GAP}{one_line(shortened(text, room) if part == 'prompt' else text, room)}")
    return lines


def wrapped_fields(fields: Sequence[str], width: int) -> list[str]:
    """Progress lines made of fields, broken at `width` only between fields; further lines are indented."""
    lines = [fields[0]]
    for field in fields[1:]:
        if len(lines[-1]) + len(_GAP) + len(field) <= width:
            lines[-1] += _GAP + field
        else:
            lines.append(_GAP + field)
    return lines
