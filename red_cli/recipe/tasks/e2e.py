"""Settings of the task e2e."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from red_cli.recipe.metrics import E2E_METRICS, TEXT_METRICS, Metric, TextMetric
from red_cli.recipe.roles import V0_2, Since
from red_cli.recipe.sections import Columns
from red_cli.recipe.tasks.base import NAME, CompletionSettings

MEANING, TEXT = "meaning_representation", "human_reference"  # columns, by the names that they have on the Hub
OFFICIAL_NAMES = {"mr": MEANING, "ref": TEXT}  # columns of E2E's own CSV files -> those of the Hub


class E2eSettings(CompletionSettings):
    """E2E NLG: a meaning representation, such as name[Blue Spice], food[French] -> a text that expresses it."""

    name: Literal["e2e"] = Field(description=NAME)
    linearization: Literal["table", "published"] = Field(
        default="table",
        description="The form of the meaning in prompts. table: 'name : Blue Spice | food : French', as in LoRA and "
        "prefix-tuning; published: unchanged, as in RED's published code.",
    )

    since: ClassVar[Since] = V0_2
    has_source: ClassVar[bool] = True
    has_own_layout: ClassVar[bool] = True
    default_text_metrics: ClassVar[tuple[TextMetric, ...]] = E2E_METRICS

    def input_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        official = [name for name, meaning in OFFICIAL_NAMES.items() if meaning == MEANING]
        return [(columns.prompt,) if columns.prompt else (MEANING, *official)]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return ("loss", *TEXT_METRICS)
