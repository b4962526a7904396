"""GLUE: columns, label names and metrics of its tasks (the Hub's nyu-mll/glue)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from red_cli.recipe.data import Columns, Data
from red_cli.recipe.schema import GlueSubset
from red_cli.tasks.data.splits import SCORED, SELECTION, PaperCut
from red_cli.tasks.labels.answers import Labels, Numbers
from red_cli.tasks.labels.classification import SequenceTask

HUB_NAME = "nyu-mll/glue"


@dataclass(frozen=True)
class GlueFacts:
    """One task.

    Attributes:
        columns: of the text or texts.
        labels: names in the order of ids; None: a number.
        metrics: the first chooses.
        validation_splits: the first chooses.
        large: whether the paper's T5 code chooses by 1,000 training rows and scores all of the validation set.
        swapped: whether the paper's RoBERTa code scores the first half of the validation set and chooses by the second.
    """

    columns: tuple[str, ...]
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]
    validation_splits: tuple[str, ...] = ("validation",)
    large: bool = False
    swapped: bool = False


_ENTAILMENT = ("entailment", "not_entailment")

GLUE: dict[GlueSubset, GlueFacts] = {
    "cola": GlueFacts(
        ("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation", "accuracy"), swapped=True
    ),
    "sst2": GlueFacts(("sentence",), ("negative", "positive"), ("accuracy",), large=True),
    "mrpc": GlueFacts(("sentence1", "sentence2"), ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "stsb": GlueFacts(("sentence1", "sentence2"), None, ("pearson", "spearman")),
    "qqp": GlueFacts(("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1"), large=True),
    "mnli": GlueFacts(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        ("validation_matched", "validation_mismatched"),
        large=True,
    ),
    "qnli": GlueFacts(("question", "sentence"), _ENTAILMENT, ("accuracy",), large=True),
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


def with_paper_cut(task: SequenceTask, subset: GlueSubset, encoder_decoder: bool) -> SequenceTask:
    """The task with its best epoch chosen, and its score taken, on the rows of the published code.

    That code has two rules: one for RoBERTa, and another for T5, which encoder-decoders follow. MNLI is scored on
    matched genres alone.
    """
    facts = GLUE[subset]
    cut = PaperCut(
        facts.validation_splits[0],
        from_training=encoder_decoder and facts.large,
        swapped=facts.swapped and not encoder_decoder,
    )
    return replace(task, paper_cut=cut, validation_splits=(SELECTION, SCORED))
