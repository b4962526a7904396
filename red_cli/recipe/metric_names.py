"""The names of metrics, as recipes and run folders have them."""

from __future__ import annotations

from typing import Literal

TextMetric = Literal["BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr", "chrF", "rouge1", "rouge2", "rougeL"]
_Own = Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman", "loss", "exact_match"]
Metric = _Own | Literal["likelihood_accuracy"] | TextMetric
E2E_METRICS: tuple[TextMetric, ...] = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")  # as in Tables 2 and 8
