"""The page of metrics: what each measures, how it is shown, and which tasks can select by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from red_cli.recipe.metrics import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    TEXT_METRICS,
    metric_spec,
)
from red_cli.recipe.score_format import is_percentage
from red_cli.recipe.tasks.base import TaskSettings
from red_cli.recipe.tasks.glue import GlueSettings, GlueSubset
from red_cli.recipe.tasks.registry import TASKS
from red_cli.tasks.text_metrics.score import METRICS
from reference.markdown import code, codes, page, table, text

_OF_ANSWERS = ("loss", "perplexity", "exact_match", "likelihood_accuracy")
_COUNTS = ("unfinished", "no_label", "no_number", "no_answer")
_INTRODUCTION = """\
`eval.metric` chooses the metric that selects the best evaluation, and `eval.metrics` further ones for generated texts.
In `metrics.json` every score is as the metric defines it. Tables show fractions and correlations times 100, and
these as they are: {as_it_is}.
"""
_TEXTS = """\
`red score` computes these for any files, and `red eval` for the texts of a run. The packages are in the extra
`nlg`: `pip install 'red-finetune[nlg]'`. [Metrics of generated text](text_metrics.md) says what their official
definitions imply.
"""


def make() -> str:
    """The text of the page."""
    every = (*CLASSIFICATION_METRICS, *REGRESSION_METRICS, *TEXT_METRICS, *_OF_ANSWERS)
    return page(
        "Metrics",
        _INTRODUCTION.format(as_it_is=codes(name for name in every if not is_percentage(name))),
        "## Labels",
        _table(CLASSIFICATION_METRICS),
        "## Numbers",
        _table(REGRESSION_METRICS),
        "## Generated texts",
        _TEXTS,
        _table(TEXT_METRICS),
        "## Losses and answers",
        _table(_OF_ANSWERS),
        "## Counts",
        "These count answers that no metric can use. They select nothing.",
        _table(_COUNTS),
        "## Which task can select by which metric",
        "The first one is the default. In classification, `macro_f1` is the default where one class has more than half "
        "of the training rows.",
        table(("task", "metrics"), _by_task()),
    )


def _table(names: Iterable[str]) -> str:
    """The table of metrics."""
    return table(("metric", "needs", "meaning"), ((code(name), _needs(name), _meaning(name)) for name in names))


def _meaning(name: str) -> str:
    """What a metric measures, and whether lower scores are better."""
    spec = metric_spec(name)
    return f"{text(spec.meaning)} Lower is better." if spec.lower_is_better else text(spec.meaning)


def _needs(name: str) -> str:
    """The packages and programs that a metric needs besides those of red."""
    facts = METRICS.get(name)
    if facts is None:
        return ""
    package = [facts.package.replace("_", "-")] if facts.package else []
    return ", ".join([*package, *(["Java"] if facts.java else [])])


def _by_task() -> Iterable[tuple[str, str]]:
    """The rows of the table by task: its name, and the metrics that can select, the default first."""
    for kind in TASKS:
        if kind is GlueSettings:
            for subset in get_args(GlueSubset):
                yield _row(GlueSettings(name="glue", subset=subset))
        else:
            (name,) = get_args(kind.model_fields["name"].annotation)
            yield _row(kind(name=name))


def _row(settings: TaskSettings) -> tuple[str, str]:
    """The row of one task."""
    return code(settings.title), codes(settings.metrics)
