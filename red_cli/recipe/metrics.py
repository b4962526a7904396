"""The metrics: their names, directions, formats and meanings; which of two scores is better, and which sum up a split.

`tasks/labels/metrics.py` computes those of labels and numbers, `tasks/text_metrics/score.py` those of texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

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


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Whether `value` is better by this metric than the `best` so far; None: there is no earlier score."""
    if best is None or math.isnan(best):
        return True
    return value < best if metric_spec(metric).lower_is_better else value > best
