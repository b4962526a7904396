"""Settings of the task regression."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from red_cli.recipe.roles import V0_2
from red_cli.recipe.tasks.base import INPUT_TEMPLATE, NAME, TEXT_TO_TEXT, LabelSettings
from red_cli.recipe.template import Template


class RegressionSettings(LabelSettings):
    """A text or a pair of texts -> a number."""

    name: Literal["regression"] = Field(description=NAME)
    text_to_text: Annotated[bool, V0_2] = Field(default=False, description=TEXT_TO_TEXT)
    prompt_template: Annotated[Template | None, V0_2] = Field(default=None, description=INPUT_TEMPLATE)
    decimals: Annotated[int, Field(ge=0, le=9), V0_2] = Field(
        default=1, description="With text_to_text: decimals of the generated numbers."
    )

    @property
    def is_regression(self) -> bool:
        return True
