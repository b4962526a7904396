"""The `paper` section of a recipe: the paper's figures; and the paper's names of the method's variants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated

from pydantic import Field, model_validator

from red_cli.edit.config import RedConfig
from red_cli.recipe.methods import is_plus_plus
from red_cli.recipe.metrics import Metric
from red_cli.recipe.roles import V0_2
from red_cli.recipe.sections import Section

RED, RED_PLUS_PLUS = "RED", "RED++"
# Table of arXiv 2402.15179v3 -> the method whose figures it holds
_METHODS = {"1": RED, "2": RED, "3": RED, "7": RED_PLUS_PLUS, "8": RED_PLUS_PLUS}


@dataclass(frozen=True)
class Figure:
    """One figure of the paper, in its unit, and its standard deviation over seeds if the paper gives one."""

    score: float
    std: float | None


class Paper(Section):
    """The paper's figures, shown next to ours."""

    model: str = Field(description="The base that the figures belong to.")
    task: Annotated[str | None, V0_2] = Field(
        default=None, description="The task that they belong to, such as glue/sst2."
    )
    table: str = Field(description="Table of arXiv 2402.15179v3.")
    score: float | dict[Metric, float] = Field(
        description="In the paper's unit: percent, or 100 times the coefficient. A task with several metrics has one "
        "score for each."
    )
    std: float | dict[Metric, float] | None = Field(
        default=None, description="Standard deviation over the paper's seeds, in the same form."
    )
    note: str | None = Field(default=None, description="What to bear in mind when comparing.")

    @model_validator(mode="after")
    def _same_form(self) -> Paper:
        if isinstance(self.std, dict):
            fits = isinstance(self.score, dict) and self.std.keys() <= self.score.keys()
        else:
            fits = self.std is None or not isinstance(self.score, dict)
        if not fits:
            raise ValueError("std in the same form as score: a number, or one for each metric that has a score")
        return self

    def figure(self, metric: str) -> Figure | None:
        """The figure for a metric, or None; a single score is the figure for any metric."""
        std = self.std.get(metric) if isinstance(self.std, dict) else self.std  # type: ignore[call-overload]
        if not isinstance(self.score, dict):
            return Figure(self.score, std)
        score = self.score.get(metric)  # type: ignore[call-overload]
        return None if score is None else Figure(score, std)

    @property
    def method(self) -> str | None:
        """The method that the figures belong to; None if the table does not say."""
        return _METHODS.get(self.table)

    def mismatch(self, task: str, base: str, red: RedConfig | None) -> str | None:
        """Why the figures do not apply to a run: the first of task, base and edits that differs; or None.

        Args:
            base: the base's name or path; its last part is compared.
            red: the edits; None for a method that has none.
        """
        name = PurePath(base).name
        if self.task not in (None, task):
            return f"the task is {task}, the paper's is {self.task}"
        if name != self.model:
            return f"the base is {name}, the paper's is {self.model}"
        if red is None or self.method not in (None, red_method(red)):
            return f"the edits are not those of the paper's {self.method or RED}"
        return None


def red_method(red: RedConfig) -> str | None:
    """The paper's name for the edits of `red`; None if the paper has no such edits."""
    if red.target_modules is not None or red.layers != "all" or set(red.components) != {"scale", "bias"}:
        return None
    if is_plus_plus(red.positions):
        return RED_PLUS_PLUS
    return RED if red.positions == ["ffn"] else None
