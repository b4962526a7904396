"""Settings of the task commonsense."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from red_cli.recipe.metrics import Metric
from red_cli.recipe.roles import V0_2, Since
from red_cli.recipe.sections import Columns, Data
from red_cli.recipe.tasks.base import NAME, TaskSettings
from red_cli.recipe.template import Template, template_fields

INSTRUCTION, INPUT = "instruction", "input"  # columns of the question; the second need not be there
CommonsenseSubset = Literal[
    "boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"
]


class CommonsenseSettings(TaskSettings):
    """Commonsense questions with a choice of answers, in the LLM-Adapters protocol (arXiv 2304.01933)."""

    name: Literal["commonsense"] = Field(description=NAME)
    subset: CommonsenseSubset | None = Field(default=None, description="One of the eight tasks; default: all.")
    scoring: Literal["both", "generation", "likelihood"] = Field(
        default="both",
        description="generation: parse the answer from the generated text, as in the protocol. likelihood: choose the "
        "answer with the likeliest text. Evaluations during training compute only what eval.metric needs.",
    )
    prompt_template: Template | None = Field(
        default=None, description="The prompt, with columns in braces: '{instruction}\\n'; default: the protocol's."
    )

    since: ClassVar[Since] = V0_2
    reads: ClassVar[tuple[str, ...]] = ("prompt", "completion", "label")
    source_hint: ClassVar[str | None] = "The protocol's data: git clone https://github.com/AGI-Edgerunners/LLM-Adapters"
    has_own_layout: ClassVar[bool] = True
    rows: ClassVar[str] = "a prompt, a completion and a label"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        first: tuple[Metric, ...] = ("accuracy", "likelihood_accuracy")
        return (*(reversed(first) if self.scoring == "likelihood" else first), "loss")

    def input_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        instruction = columns.prompt or INSTRUCTION
        others = [] if self.prompt_template is None else template_fields(self.prompt_template)
        return [(instruction,), *((name,) for name in others if name != INSTRUCTION)]

    def why_no_text(self, metric: str | None) -> str | None:
        return "task.scoring is likelihood" if self.scoring == "likelihood" and metric != "accuracy" else None

    def conflicting_files(self, data: Data) -> list[str]:
        # The joint file has only training rows; the test sets are elsewhere.
        return [] if data.train is None else super().conflicting_files(data)
