"""Settings of the task instruction: conversations and their chat template."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from red_cli.recipe.roles import V0_2, LocalPath, Since, Text
from red_cli.recipe.sections import Columns, Data, KeyFault
from red_cli.recipe.tasks.base import NAME, TemplateChoice, TextSettings
from red_cli.recipe.template import OWN, read_template
from red_cli.recipe.train_section import Train


class InstructionSettings(TextSettings):
    """Conversations, prompts with completions, or instructions with outputs -> the assistant's messages."""

    name: Literal["instruction"] = Field(description=NAME)
    template: Annotated[str, AfterValidator(read_template), LocalPath.OR_TEMPLATE] = Field(
        default=OWN,
        description="The chat template: own (the model's), own:NAME (one of several that it has), alpaca, "
        "human-assistant, or a Jinja file (its text, in the recipe of a run).",
    )
    template_variables: Annotated[dict[str, str | int | float | bool], Text.MAY_BE_EMPTY] = Field(
        default_factory=dict,
        description="Extra variables of the chat template, such as date_string.",
    )
    train_on_prompt: bool = Field(
        default=False, description="Include all tokens in the loss, not only the assistant's turns."
    )

    since: ClassVar[Since] = V0_2
    reads: ClassVar[tuple[str, ...]] = ("messages", "instruction", "input", "output", "prompt", "completion")
    rows: ClassVar[str] = "messages, prompt and completion, or instruction and output"
    can_chat: ClassVar[bool] = True

    @property
    def chat_template(self) -> TemplateChoice:
        return TemplateChoice(self.template, self.template_variables)

    def columns_read(self, columns: Columns) -> dict[str, str | None]:
        return {part: getattr(columns, part) for part in Columns.model_fields}

    def input_columns(self, columns: Columns) -> list[tuple[str, ...]]:
        return [(name,) for name in self.columns_read(columns).values() if name is not None]  # others depend on rows

    def faults(self, data: Data, train: Train) -> list[KeyFault]:
        faults = super().faults(data, train)
        if data.streaming and train.max_steps is None:
            faults.append((("data", "streaming"), "a stream has no known length; set train.max_steps"))
        if data.streaming and data.max_train_rows is not None:
            faults.append(
                (("data", "max_train_rows"), "streaming reads the rows that train.max_steps needs; remove one key")
            )
        return faults
