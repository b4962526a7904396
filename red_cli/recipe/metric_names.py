"""The metrics that recipes and run folders name, and what is to be known of each to show it.

Metrics of labels and numbers are computed in `tasks/labels/metrics.py`, of texts in `tasks/text_metrics/score.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ClassificationMetric = Literal["accuracy", "f1", "matthews_correlation"]
RegressionMetric = Literal["pearson", "spearman"]
TextMetric = Literal["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr", "chrF", "rouge1", "rouge2", "rougeL"]
_Own = Literal[ClassificationMetric, RegressionMetric, "loss", "exact_match"]
Metric = _Own | Literal["likelihood_accuracy"] | TextMetric

CLASSIFICATION_METRICS: tuple[ClassificationMetric, ...] = get_args(ClassificationMetric)
REGRESSION_METRICS: tuple[RegressionMetric, ...] = get_args(RegressionMetric)
TEXT_METRICS: tuple[TextMetric, ...] = get_args(TextMetric)
E2E_METRICS: tuple[TextMetric, ...] = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")  # as in Tables 2 and 8


@dataclass(frozen=True)
class MetricSpec:
    """How a score is shown.

    Attributes:
        title: the metric in words; None: its name, with spaces.
        format: of a score that is neither a share nor a coefficient; these are shown times 100, with two digits.
        lower_is_better: whether a lower score is the better one.
    """

    title: str | None = None
    format: str | None = None
    lower_is_better: bool = False


# Those that have a title, unit or direction of their own
_SPECS = {
    "f1": MetricSpec("F1"),
    "matthews_correlation": MetricSpec("Matthews correlation"),
    "pearson": MetricSpec("Pearson's correlation"),
    "spearman": MetricSpec("Spearman's correlation"),
    "ROUGE_L": MetricSpec("ROUGE_L"),
    "NIST": MetricSpec(format=".3f"),
    "CIDEr": MetricSpec(format=".3f"),
    "loss": MetricSpec(format=".4f", lower_is_better=True),
    "perplexity": MetricSpec(format=".4g", lower_is_better=True),
    # counts of answers
    **dict.fromkeys(("unfinished", "no_label", "no_number", "no_answer"), MetricSpec(format=",.0f")),
}


def metric_spec(name: str) -> MetricSpec:
    """How the scores of a metric are shown; a part of one, such as accuracy.boolq, is a share."""
    return _SPECS.get(name, MetricSpec())
