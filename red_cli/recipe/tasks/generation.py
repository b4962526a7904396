"""Settings of the task generation."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from red_cli.recipe.roles import V0_2, Since
from red_cli.recipe.sections import Data, KeyFault
from red_cli.recipe.tasks.base import NAME, CompletionSettings
from red_cli.recipe.template import Template
from red_cli.recipe.train_section import Train


class GenerationSettings(CompletionSettings):
    """A prompt -> its completion, by a decoder or an encoder-decoder."""

    name: Literal["generation"] = Field(description=NAME)
    prompt_template: Template | None = Field(
        default=None, description="The prompt, with columns in braces: 'Q: {question}'; instead of data.columns.prompt."
    )
    completion_template: Template | None = Field(
        default=None, description="The completion, with columns in braces; instead of data.columns.completion."
    )
    train_on_prompt: bool = Field(default=False, description="Include the prompt's tokens in the loss.")
    end_token: str | None = Field(
        default=None, description="The token that ends a completion; default: the tokenizer's EOS token."
    )

    since: ClassVar[Since] = V0_2
    can_chat: ClassVar[bool] = True

    def template(self, part: str) -> str | None:
        return self.prompt_template if part == "prompt" else self.completion_template

    def faults(self, data: Data, train: Train) -> list[KeyFault]:
        both = [part for part in self.reads if getattr(data.columns, part) and self.template(part)]
        return [
            *super().faults(data, train),
            *((("data", "columns", part), f"set the column or task.{part}_template, not both") for part in both),
        ]
