"""Keys of the commonsense task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from red_cli.recipe.section import TaskSettings
from red_cli.recipe.text import Template

CommonsenseSubset = Literal[
    "boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"
]
COMMONSENSE_METRICS = ("accuracy", "likelihood_accuracy", "loss")


class CommonsenseTask(TaskSettings):
    """Commonsense questions with a few answers to choose from, in the LLM-Adapters protocol (arXiv 2304.01933)."""

    name: Literal["commonsense"]
    subset: CommonsenseSubset | None = Field(default=None, description="Which of the eight tasks; all if absent.")
    scoring: Literal["both", "generation", "likelihood"] = Field(
        default="both",
        description="generation: the answer is read from the text the model writes, as the protocol has it. "
        "likelihood: the answer whose text the model finds likeliest. On the way, what eval.metric needs.",
    )
    prompt_template: Template | None = Field(
        default=None, description="The prompt, columns in braces: '{instruction}\\n'; default: the protocol's."
    )
