"""Settings of the task glue, and a table of the GLUE tasks: columns, label names, metrics, headings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from red_cli.recipe.metrics import Metric
from red_cli.recipe.roles import V0_2
from red_cli.recipe.sections import Columns, Data, KeyFault
from red_cli.recipe.tasks.base import INPUT_TEMPLATE, LABEL_TEXTS, NAME, TEXT_TO_TEXT, Heading, LabelSettings
from red_cli.recipe.template import LabelTexts, Template
from red_cli.recipe.train_section import Train

GlueSubset = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]


@dataclass(frozen=True)
class GlueSpec:
    """A GLUE task.

    Attributes:
        heading: the title of its column in the paper's Table 1.
        columns: the columns of the text or texts.
        labels: label names in the order of ids; None: a number.
        metrics: the reported metrics; the first selects.
        validation_splits: the first selects.
        large: whether the paper's T5 code selects on 1,000 training rows and scores the full validation set.
        swapped: whether the paper's RoBERTa code scores the first half of the validation set and selects on the second.
    """

    heading: str
    columns: tuple[str, ...]
    labels: tuple[str, ...] | None
    metrics: tuple[Metric, ...]
    validation_splits: tuple[str, ...] = ("validation",)
    large: bool = False
    swapped: bool = False


_ENTAILMENT = ("entailment", "not_entailment")

# In the order of Table 1 of arXiv 2402.15179v3
GLUE: dict[GlueSubset, GlueSpec] = {
    "mnli": GlueSpec(
        "MNLI",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        ("validation_matched", "validation_mismatched"),
        large=True,
    ),
    "sst2": GlueSpec("SST-2", ("sentence",), ("negative", "positive"), ("accuracy",), large=True),
    "mrpc": GlueSpec("MRPC", ("sentence1", "sentence2"), ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "cola": GlueSpec(
        "CoLA", ("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation", "accuracy"), swapped=True
    ),
    "qnli": GlueSpec("QNLI", ("question", "sentence"), _ENTAILMENT, ("accuracy",), large=True),
    "qqp": GlueSpec("QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1"), large=True),
    "rte": GlueSpec("RTE", ("sentence1", "sentence2"), _ENTAILMENT, ("accuracy",)),
    "stsb": GlueSpec("STS-B", ("sentence1", "sentence2"), None, ("pearson", "spearman")),
}


class GlueSettings(LabelSettings):
    """A task of the GLUE benchmark: its columns, label names and metrics are known."""

    name: Literal["glue"] = Field(description=NAME)
    subset: GlueSubset = Field(description="The GLUE task.")
    text_to_text: Annotated[bool, V0_2] = Field(default=False, description=TEXT_TO_TEXT)
    prompt_template: Annotated[Template | None, V0_2] = Field(default=None, description=INPUT_TEMPLATE)
    label_texts: Annotated[LabelTexts | None, V0_2] = Field(default=None, description=LABEL_TEXTS)

    has_source: ClassVar[bool] = True
    has_paper_split: ClassVar[bool] = True

    @property
    def spec(self) -> GlueSpec:
        """The table's row of the task."""
        return GLUE[self.subset]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(dict.fromkeys([self.spec.metrics[0], *super().metrics]))

    @property
    def validation_splits(self) -> tuple[str, ...]:
        return self.spec.validation_splits

    def input_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        text, pair = (*self.spec.columns, None)[:2]
        changes = {"text": columns.text or text, "text_pair": columns.text_pair or pair}
        return super().input_columns(columns.model_copy(update=changes))

    @property
    def is_regression(self) -> bool:
        return self.spec.labels is None

    @property
    def heading(self) -> Heading:
        return Heading(list(GLUE).index(self.subset), self.spec.heading)

    def faults(self, data: Data, train: Train) -> list[KeyFault]:
        faults = super().faults(data, train)
        if self.label_texts and self.is_regression:
            faults.append((("task", "label_texts"), "the answers of this task are numbers"))
        return faults
