"""The metrics: their names, directions and formats; comparing, formatting and averaging scores.

`tasks/labels/metrics.py` computes those of labels and numbers, `tasks/text_metrics/score.py` those of texts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from red_cli.errors import one_line

_TWO = 2  # classes, of which F1 is that of the second
_MACRO_F1 = "f1 (macro)"  # the name that metrics.json has
_LONGEST_LABEL = 30  # characters of a class in the name of a metric
Untuned = Literal["none"]  # what comparisons and metrics.json call a base that nothing was trained on, as a method
UNTUNED: Untuned = "none"
ClassificationMetric = Literal["accuracy", "f1", "matthews_correlation", "macro_f1"]
RegressionMetric = Literal["pearson", "spearman"]
TextMetric = Literal["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr", "chrF", "rouge1", "rouge2", "rougeL"]
_Own = Literal[ClassificationMetric, RegressionMetric, "loss", "exact_match"]
Metric = _Own | Literal["likelihood_accuracy"] | TextMetric

CLASSIFICATION_METRICS: tuple[ClassificationMetric, ...] = get_args(ClassificationMetric)
REGRESSION_METRICS: tuple[RegressionMetric, ...] = get_args(RegressionMetric)
TEXT_METRICS: tuple[TextMetric, ...] = get_args(TextMetric)
# Computed for every classification; macro_f1 only if it selects, since f1 is the same for more than two classes
LABEL_METRICS = tuple(name for name in CLASSIFICATION_METRICS if name != "macro_f1")
_BOTH = 2  # scores, whose deviation says no more than the two
E2E_METRICS: tuple[TextMetric, ...] = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")  # as in Tables 2 and 8


@dataclass(frozen=True)
class MetricSpec:
    """How to display a score, and what it measures.

    Attributes:
        title: the metric's title; None: its name, with spaces.
        format: the number format; None: a fraction or coefficient, shown times 100 with two decimals.
        lower_is_better: whether a lower score is better.
        meaning: what it measures, for the reference.
    """

    title: str | None = None
    format: str | None = None
    lower_is_better: bool = False
    meaning: str = ""


_ROUGE = "Mean F1 of {} with the best reference: words of a-z and 0-9, not stemmed; for English."
_COUNT = ",.0f"
_SPECS = {
    "accuracy": MetricSpec(meaning="Fraction of right answers; of several commonsense tasks the mean over tasks."),
    "f1": MetricSpec("F1", meaning="F1 of the second of two classes; of more classes the mean over all."),
    "macro_f1": MetricSpec("macro F1", meaning="Mean F1 over all classes."),
    "matthews_correlation": MetricSpec("Matthews correlation", meaning="Correlation of predicted and true classes."),
    "pearson": MetricSpec("Pearson's correlation", meaning="Linear correlation of predicted and true numbers."),
    "spearman": MetricSpec("Spearman's correlation", meaning="Correlation of their ranks."),
    "BLEU": MetricSpec(
        meaning="Corpus BLEU-4 of mteval-v13a: its tokens, lower case, closest reference length, smoothed where an "
        "order has no match."
    ),
    "NIST": MetricSpec(format=".3f", meaning="NIST-5 of mteval-v13a over the same tokens; from 0 up."),
    "METEOR": MetricSpec(meaning="METEOR 1.5 for English with `-norm`, over PTB tokens without punctuation."),
    "ROUGE_L": MetricSpec(
        "ROUGE_L",
        meaning="That of COCO: mean over inputs of the F with β 1.2 of the best precision and the best recall of any "
        "reference.",
    ),
    "CIDEr": MetricSpec(format=".3f", meaning="That of COCO: TF-IDF of up to 4 words, σ 6; from 0 to 10."),
    "chrF": MetricSpec(meaning="Corpus chrF2 of sacrebleu: up to 6 characters; case counts."),
    "rouge1": MetricSpec(meaning=_ROUGE.format("single words")),
    "rouge2": MetricSpec(meaning=_ROUGE.format("pairs of words")),
    "rougeL": MetricSpec(meaning=_ROUGE.format("the longest common subsequence")),
    "exact_match": MetricSpec(meaning="Fraction of the generated texts that equal a completion of their prompt."),
    "likelihood_accuracy": MetricSpec(meaning="Fraction of the questions whose right answer has the likeliest text."),
    "loss": MetricSpec(format=".4f", lower_is_better=True, meaning="Mean cross-entropy, in nats per labelled token."),
    "perplexity": MetricSpec(format=".4g", lower_is_better=True, meaning="The exponential of the loss."),
    "unfinished": MetricSpec(format=_COUNT, meaning="Generated texts that were cut at the maximum number of tokens."),
    "no_label": MetricSpec(format=_COUNT, meaning="Generated texts that are no label; they count as wrong."),
    "no_number": MetricSpec(format=_COUNT, meaning="Generated texts that are no number; they count as wrong."),
    "no_answer": MetricSpec(format=_COUNT, meaning="Generated texts without an answer; they count as wrong."),
}


def metric_spec(name: str) -> MetricSpec:
    """How to display the scores of a metric; a part of one, such as accuracy.boolq, is a fraction."""
    return _SPECS.get(name, MetricSpec())


def metric_name(metric: str, label_names: Sequence[str] | None) -> str:
    """The name to show: that of F1 says of which class it is, or that it is the mean over all classes.

    Args:
        label_names: in the order of class ids; None if unknown, or if answers are numbers or texts.
    """
    classes = 0 if label_names is None else len(label_names)
    if metric == "macro_f1" or (metric == "f1" and classes > _TWO):
        return _MACRO_F1
    return f"f1 of {one_line(label_names[1], _LONGEST_LABEL)}" if label_names and metric == "f1" else metric


def metric_names(metrics: Iterable[str], label_names: Sequence[str] | None) -> dict[str, str]:
    """Metric -> the name to show, for those whose name says more than the metric."""
    names = {metric: metric_name(metric, label_names) for metric in metrics}
    return {metric: name for metric, name in names.items() if name != metric}


def stored_name(result: Mapping[str, Any], metric: str) -> str:
    """The name to show of a metric in a result, such as metrics.json, which has these names."""
    return str(result.get("metric_names", {}).get(metric, metric))


def stored_title(result: Mapping[str, Any], metric: str) -> str:
    """A metric of a result in words, for titles and tables: that of F1 is `macro F1` or `F1 of spam`, where known.

    A part of a metric, such as accuracy.boolq, is `accuracy of boolq`.
    """
    metric, _, part = metric.partition(".")
    name = stored_name(result, metric)
    if name == _MACRO_F1:
        metric = name = "macro_f1"
    title = metric_spec(metric).title or metric.replace("_", " ")
    return f"{title}{name.removeprefix(metric)}{f' of {part}' if part else ''}"


def untuned_remark(untuned: Mapping[str, Any], examples: int, head: int) -> str:
    """How the metric of the untuned model is comparable with the tuned one, in words.

    Args:
        examples: the rows that the tuned score of the same split is of.
        head: the trained parameters of the run's head; before training its values are random.
    """
    with_head = ", with a new head" if head else ""
    some = "" if untuned["examples"] == examples else f", on {untuned['examples']:,} of {examples:,} rows"
    return f"before training{with_head}{some}"


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Whether `value` is better by this metric than the `best` so far; None: there is no earlier score."""
    if best is None or math.isnan(best):
        return True
    return value < best if metric_spec(metric).lower_is_better else value > best


def is_percentage(metric: str) -> bool:
    """Whether a metric is a share or a coefficient, which is shown times 100."""
    return metric_spec(metric).format is None


def display_value(metric: str, value: float) -> float:
    """A score in the unit of display and of publications: times 100 if it is a percentage."""
    return value * 100 if is_percentage(metric) else value


def format_score(metric: str, value: float) -> str:
    """The score of a metric in that metric's own format, or with two decimals if it has none."""
    return f"{display_value(metric, value):{metric_spec(metric).format or '.2f'}}"


def headline_metrics(metric: str, scores: Mapping[str, Any]) -> list[str]:
    """The metrics that summarise a split: those of generated texts, else the metric that selects the best evaluation.

    None if neither was computed, as of metrics that need Java.

    Args:
        scores: metric -> value, as in metrics.json, without metrics that were not computed.
    """
    return [name for name in TEXT_METRICS if name in scores] or [name for name in (metric,) if name in scores]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Average one metric's scores: their mean and sample standard deviation (n - 1), None for a single score."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def format_scores(metric: str, values: Sequence[float]) -> str:
    """One metric's scores over seeds, averaged as text: mean ± sample deviation, but both scores of two."""
    if len(values) == _BOTH:
        return " / ".join(format_score(metric, value) for value in values)
    mean, spread = mean_and_spread(values)
    return format_score(metric, mean) + ("" if spread is None else f" ± {format_score(metric, spread)}")
