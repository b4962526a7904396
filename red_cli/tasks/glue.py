"""GLUE: columns, label names and metrics of its tasks (the Hub's nyu-mll/glue)."""

from __future__ import annotations

from dataclasses import dataclass

from red_cli.recipe.schema import Columns, Data, GlueSubset
from red_cli.tasks.answers import Labels, Numbers
from red_cli.tasks.classification import SequenceTask

HUB_NAME = "nyu-mll/glue"


@dataclass(frozen=True)
class GlueFacts:
    """One task: its text columns, label names in the order of ids (None: a number), metrics, the first chooses."""

    columns: tuple[str, ...]
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]
    validation_splits: tuple[str, ...] = ("validation",)


_ENTAILMENT = ("entailment", "not_entailment")

GLUE: dict[GlueSubset, GlueFacts] = {
    "cola": GlueFacts(("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation", "accuracy")),
    "sst2": GlueFacts(("sentence",), ("negative", "positive"), ("accuracy",)),
    "mrpc": GlueFacts(("sentence1", "sentence2"), ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "stsb": GlueFacts(("sentence1", "sentence2"), None, ("pearson", "spearman")),
    "qqp": GlueFacts(("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "mnli": GlueFacts(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        ("validation_matched", "validation_mismatched"),
    ),
    "qnli": GlueFacts(("question", "sentence"), _ENTAILMENT, ("accuracy",)),
    "rte": GlueFacts(("sentence1", "sentence2"), _ENTAILMENT, ("accuracy",)),
}


def glue_task(subset: GlueSubset, data: Data, metric: str | None) -> SequenceTask:
    """The task, from the Hub unless `data` names files of the same columns."""
    facts = GLUE[subset]
    first, second = (*facts.columns, None)[:2]
    named = data.columns
    changes: dict[str, object] = {
        "columns": Columns(text=named.text or first, text_pair=named.text_pair or second, label=named.label or "label")
    }
    if data.path is None and data.train is None:
        changes |= {"path": HUB_NAME, "name": subset}
    metrics = facts.metrics if metric is None or metric in facts.metrics else (metric, *facts.metrics)
    return SequenceTask(
        data=data.model_copy(update=changes),
        answers=Numbers() if facts.labels is None else Labels(list(facts.labels), given=True),
        metrics=metrics,
        metric=metric or facts.metrics[0],
        validation_splits=facts.validation_splits,
    )
