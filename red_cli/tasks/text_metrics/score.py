"""Compute metrics of generated text by name, and check their requirements."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from red_cli.errors import UserError, did_you_mean
from red_cli.recipe.metrics import E2E_METRICS
from red_cli.tasks.text_metrics.coco import coco_scores
from red_cli.tasks.text_metrics.java import INSTALL_JAVA, find_java
from red_cli.tasks.text_metrics.mteval import mteval_scores
from red_cli.tasks.text_metrics.overlap import chrf_scores, rouge_scores
from red_cli.tasks.text_metrics.text_files import as_file_line

Compute = Callable[
    [Sequence[str], Sequence[str], Sequence[Sequence[str]], Callable[[str], None]],
    dict[str, float],
]


@dataclass(frozen=True)
class MetricFacts:
    """One metric: the function that computes it, alone or with others, and its requirements."""

    compute: Compute
    package: str | None = None  # import name; all are in the extra `nlg`
    java: bool = False


METRICS: dict[str, MetricFacts] = {
    "BLEU": MetricFacts(mteval_scores, "sacrebleu"),
    "NIST": MetricFacts(mteval_scores),
    "METEOR": MetricFacts(coco_scores, "pycocoevalcap", java=True),
    "ROUGE_L": MetricFacts(coco_scores, "pycocoevalcap", java=True),
    "CIDEr": MetricFacts(coco_scores, "pycocoevalcap", java=True),
    "chrF": MetricFacts(chrf_scores, "sacrebleu"),
    "rouge1": MetricFacts(rouge_scores, "rouge_score"),
    "rouge2": MetricFacts(rouge_scores, "rouge_score"),
    "rougeL": MetricFacts(rouge_scores, "rouge_score"),
}


def metric_names(wanted: Iterable[str]) -> list[str]:
    """The distinct names of the metrics to score, in the spelling of METRICS; case does not count.

    Raises:
        UserError: there is no such metric, or `wanted` is empty.
    """
    spelt = {name.lower(): name for name in METRICS}
    names = []
    for name in wanted:
        if name.lower() not in spelt:
            hint = did_you_mean(name, METRICS)
            raise UserError(
                "unknown-name", f"no such metric: {name or 'an empty name'}", hint=f"{hint}Known: {', '.join(METRICS)}"
            )
        names.append(spelt[name.lower()])
    if not names:
        raise UserError("unknown-name", "no metric is named", hint=f"Known: {', '.join(METRICS)}")
    return list(dict.fromkeys(names))


def require_metrics(names: Iterable[str], choosing: str | None = None) -> None:
    """Check the requirements of metrics of generated text by name: their packages, and Java for `choosing`.

    Args:
        choosing: the metric that chooses the best evaluation, which cannot be left out.

    Raises:
        UserError: a package is missing, or `choosing` needs Java, which is missing.
    """
    require_packages(names)
    if choosing is not None and choosing in METRICS and not_computed([choosing]):
        raise UserError(
            "missing-dependency",
            f"eval.metric: {choosing} needs Java, which is missing",
            hint=f"Install it: {INSTALL_JAVA}",
        )


def require_packages(names: Iterable[str]) -> None:
    """Check that the packages to score texts by metrics are installed.

    Raises:
        UserError: a package is missing.
    """
    for name in names:
        package = METRICS[name].package
        if package is not None and importlib.util.find_spec(package) is None:
            raise UserError(
                "missing-dependency",
                f"{name} needs {package.replace('_', '-')}, which is not installed",
                hint="Install it: pip install 'red-finetune[nlg]'",
            )


def not_computed(names: Iterable[str]) -> dict[str, str]:
    """Metrics that cannot be computed on this machine -> the reason, with the command that installs what is missing."""
    reason = f"Java is missing; install it: {INSTALL_JAVA}"
    return {} if find_java() else {name: reason for name in names if METRICS[name].java}


def score_texts(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Iterable[str] = E2E_METRICS,
    working: Callable[[str], None] = lambda what: None,
) -> dict[str, float | None]:
    """Score generated texts.

    Args:
        predictions: one text for each input.
        references: at least one for each input.
        metrics: names in METRICS.
        working: receives the name of what is being computed.

    Returns:
        metric -> value (0 to 1; NIST from 0 up, CIDEr 0 to 10), or None for those in `not_computed`.

    Raises:
        UserError: a package is missing, predictions and references do not match, or a metric is unknown.
        RunFailed: a metric's Java process failed.
    """
    names = metric_names(metrics)
    require_packages(names)
    _check(predictions, references)
    texts = [as_file_line(text) for text in predictions]
    truths = [[as_file_line(text) for text in row] for row in references]
    missing = not_computed(names)
    scores: dict[str, float | None] = dict.fromkeys(names)
    wanted = [name for name in names if name not in missing]
    for compute in dict.fromkeys(METRICS[name].compute for name in wanted):
        together = [name for name in wanted if METRICS[name].compute is compute]
        scores |= compute(together, texts, truths, working)
    return scores


def _check(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Check before scoring that there are predictions, and references for each of them."""
    if not predictions:
        raise UserError("no-rows", "there are no predictions to score")
    if len(predictions) != len(references):
        raise UserError(
            "rows-mismatch",
            f"{len(predictions):,} predictions do not match the references of {len(references):,} inputs",
        )
    for number, texts in enumerate(references, start=1):
        if not any(text.strip() for text in texts):
            raise UserError("invalid-row", f"input {number} has no reference")
