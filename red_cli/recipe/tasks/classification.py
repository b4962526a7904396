"""Settings of the task classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from red_cli.recipe.metrics import Metric
from red_cli.recipe.roles import V0_2
from red_cli.recipe.tasks.base import INPUT_TEMPLATE, LABEL_TEXTS, NAME, TEXT_TO_TEXT, LabelSettings
from red_cli.recipe.template import LabelTexts, Template


class ClassificationSettings(LabelSettings):
    """A text or a pair of texts -> one of several labels."""

    name: Literal["classification"] = Field(description=NAME)
    labels: list[str] | None = Field(
        default=None, min_length=2, description="Label names in the order of ids; default: those of the training split."
    )
    text_to_text: Annotated[bool, V0_2] = Field(default=False, description=TEXT_TO_TEXT)
    prompt_template: Annotated[Template | None, V0_2] = Field(default=None, description=INPUT_TEMPLATE)
    label_texts: Annotated[LabelTexts | None, V0_2] = Field(default=None, description=LABEL_TEXTS)

    def default_metric(self, classes: Mapping[str, int]) -> Metric:
        """Macro F1 where one class has more than half of the rows, since always answering it is accurate there."""
        if 2 * max(classes.values(), default=0) <= sum(classes.values()):
            return super().default_metric(classes)
        return "macro_f1" if len(classes) == 2 else "f1"  # the same for more than two classes

    @field_validator("labels")
    @classmethod
    def _no_repeats(cls, labels: list[str] | None) -> list[str] | None:
        if labels is not None and len(set(labels)) != len(labels):
            raise ValueError("each label once")
        return labels
