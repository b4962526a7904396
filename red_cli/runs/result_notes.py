"""Notes on a result: what a reader must know before trusting a score, from the facts of a run or an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from red_cli.errors import one_line
from red_cli.recipe.metrics import REGRESSION_METRICS, is_better
from red_cli.recipe.score_format import format_score, is_percentage

FEW_ROWS = 200  # a score of fewer rows gets a note with its interval
_NEAR_EDGE = 0.05  # share of the whole gain: a smaller last gain is not a rise
_NORMAL = 1.96  # standard deviations around a normal mean that hold 95%
_FEWEST_PAIRS = 4  # for the interval of a correlation
_NEARLY_ONE = 1 - 1e-12
_NAMED = 5  # classes that a note names
_LONGEST = 40  # characters of a label


@dataclass(frozen=True)
class SplitFacts:
    """The facts of a scored split that notes on its result are made from.

    Attributes:
        value: the score by the run's metric; None if the split is not scored by it.
        predicted: label -> rows predicted to be of it, for classes that the split has; empty without classes.
        majority: the commonest label and the score of always answering it; None without classes.
        share: a metric's name and its value, a share of right rows; None if no metric is one.
        spread: the standard deviation of the rows' losses, if the metric is a loss.
        truncated: rows that were cut; `ends_cut` of them lost their end.
        answers: generated texts; `empty` of them have no characters.
    """

    split: str
    rows: int
    value: float | None = None
    predicted: Mapping[str, int] = field(default_factory=dict)
    majority: tuple[str, float] | None = None
    share: tuple[str, float] | None = None
    spread: float | None = None
    truncated: int = 0
    ends_cut: int = 0
    answers: int = 0
    empty: int = 0


@dataclass(frozen=True)
class Facts:
    """The facts of a run, or of an evaluation without one, that notes on its result are made from.

    Attributes:
        splits: the scored splits.
        train: the training split's rows, and how many of them were cut; None of an evaluation.
        evaluations: the scores of the selection split during training, in order.
        untuned: its score before training; None if it is not known.
        unsearched: why the learning rate may not fit the base, and what to do; None if it does, or in an evaluation.
        rate_advice: the learning rate to try where little was learned.
    """

    metric: str
    max_length: int
    splits: Sequence[SplitFacts]
    train: SplitFacts | None = None
    evaluations: Sequence[float] = ()
    untuned: float | None = None
    unsearched: str | None = None
    rate_advice: str = "train.learning_rate=auto"


@dataclass(frozen=True)
class Note:
    """A note: its stable code, a sentence with what to do, and the split that it is of; None: of the whole run."""

    code: str
    text: str
    split: str | None = None


def notes_on(facts: Facts) -> list[Note]:
    """The notes on a result, the gravest first."""
    of_splits = [note for split in facts.splits for make in _OF_SPLITS for note in make(facts, split)]
    return [*of_splits, *(note for make in _OF_RUNS for note in make(facts))]


def share_interval(right: float, rows: int) -> tuple[float, float]:
    """The interval that a note gives of a share of `rows` rows: 95%, by Wilson's formula, between 0 and 1."""
    squared = _NORMAL**2
    middle = (right + squared / (2 * rows)) / (1 + squared / rows)
    half = _NORMAL * math.sqrt(right * (1 - right) / rows + squared / (4 * rows**2)) / (1 + squared / rows)
    return max(0.0, middle - half), min(1.0, middle + half)


def correlation_interval(value: float, rows: int) -> tuple[float, float]:
    """The interval that a note gives of a correlation of `rows` pairs: 95%, by Fisher's transformation."""
    middle, half = math.atanh(max(-_NEARLY_ONE, min(value, _NEARLY_ONE))), _NORMAL / math.sqrt(rows - 3)
    return math.tanh(middle - half), math.tanh(middle + half)


def _never_predicted(facts: Facts, split: SplitFacts) -> Iterator[Note]:
    """A note on a result: classes of the split that were predicted for no row, and what to try."""
    never = [label for label, count in split.predicted.items() if count == 0]
    if never:
        more = f" and {len(never) - _NAMED} more" if len(never) > _NAMED else ""
        names = ", ".join(one_line(label, _LONGEST) for label in never[:_NAMED])
        yield Note(
            "never-predicted",
            f"{split.split}: {len(never):,} of {len(split.predicted):,} classes {'was' if len(never) == 1 else 'were'} "
            f"never predicted: {names}{more}. Try {facts.rate_advice}, more epochs, "
            "train.class_weights=balanced, or add rows of them.",
            split.split,
        )


def _majority_class(facts: Facts, split: SplitFacts) -> Iterator[Note]:
    """The note on a score that a constant answer reaches."""
    if split.majority is None or split.value is None or is_better(facts.metric, split.value, split.majority[1]):
        return
    yield Note(  # the figures stand in the rows above it
        "majority-class",
        f"{split.split}: the model is no better than always answering {one_line(split.majority[0], _LONGEST)!r}. Try "
        f"{facts.rate_advice} or more epochs, and look at the labels.",
        split.split,
    )


def _few_rows(facts: Facts, split: SplitFacts) -> Iterator[Note]:
    """A note on a result: its score is of too few rows to trust; with the width of its interval where known."""
    if split.rows >= FEW_ROWS:
        return
    about = ""
    if split.share is not None:
        about = _interval_text(split.share[0], *share_interval(split.share[1], split.rows))
    elif facts.metric in REGRESSION_METRICS and split.value is not None and split.rows >= _FEWEST_PAIRS:
        about = _interval_text(facts.metric, *correlation_interval(split.value, split.rows))
    elif split.spread is not None:
        about = f", so the loss may be off by {_NORMAL * split.spread / math.sqrt(split.rows):.4f} (95% interval)"
    rows = "1 row" if split.rows == 1 else f"only {split.rows:,} rows"
    yield Note("few-rows", f"{split.split}: the score is of {rows}{about}. Score more rows.", split.split)


def _interval_text(metric: str, low: float, high: float) -> str:
    """The words in a note on how far a result may be off: the 95% interval of a score, and its width."""
    edges = f"{format_score(metric, low)} to {format_score(metric, high)}"
    return f", so {metric} may be {edges} (95% interval, {format_score(metric, high - low)} wide)"


def _empty_answers(facts: Facts, split: SplitFacts) -> Iterator[Note]:
    """A note on a result: generated texts without any characters."""
    if split.empty:
        yield Note(
            "empty-answers",
            f"{split.split}: {split.empty:,} of {split.answers:,} answers are empty. Look at the prompts with red "
            "check; train longer, or set eval.generation.min_new_tokens=1.",
            split.split,
        )


def _rows_cut(facts: Facts, split: SplitFacts) -> Iterator[Note]:
    """The note on rows of a split that were cut."""
    if split.truncated:
        ends = f", {split.ends_cut:,} of them without their end" if split.ends_cut else ""
        yield Note(
            "rows-cut",
            f"{split.split}: {split.truncated:,} of {split.rows:,} rows were cut at {facts.max_length:,} tokens{ends}. "
            "Raise data.max_length if the base takes more, or shorten them.",
            split.split,
        )


def _training_rows_cut(facts: Facts) -> Iterator[Note]:
    """The note on training rows that were cut."""
    if facts.train is not None:
        yield from _rows_cut(facts, facts.train)


def _still_improving(facts: Facts) -> Iterator[Note]:
    """The note on a run whose last evaluation is its best, with a gain that is no mere ripple."""
    if len(facts.evaluations) < 2:
        return
    *earlier, before, last = facts.evaluations
    first = facts.untuned if facts.untuned is not None else [*earlier, before][0]
    best = all(is_better(facts.metric, last, value) for value in (*earlier, before))
    perfect = is_percentage(facts.metric) and last >= 1
    if best and not perfect and abs(last - before) >= _NEAR_EDGE * abs(last - first):
        shown = (format_score(facts.metric, value) for value in (before, last))
        yield Note(
            "still-improving",
            f"The last evaluation is the best, and still improving ({facts.metric} {' to '.join(shown)}). Train "
            "longer: raise train.num_train_epochs.",
        )


def _rate_not_searched(facts: Facts) -> Iterator[Note]:
    """The note on a learning rate that was neither searched nor chosen for this base."""
    if facts.unsearched is not None:
        yield Note("rate-not-searched", facts.unsearched)


_OF_SPLITS: tuple[Callable[[Facts, SplitFacts], Iterator[Note]], ...] = (
    _never_predicted,
    _majority_class,
    _empty_answers,
    _few_rows,
    _rows_cut,
)
_OF_RUNS: tuple[Callable[[Facts], Iterator[Note]], ...] = (_training_rows_cut, _still_improving, _rate_not_searched)


def notes_json(notes: Sequence[Note]) -> list[dict[str, str]]:
    """The notes on a result for metrics.json, without fields that are None."""
    return [{name: value for name, value in asdict(note).items() if value is not None} for note in notes]
