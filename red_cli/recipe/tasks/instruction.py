"""Settings of the task instruction: conversations and their chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from red_cli.errors import nearest, one_line
from red_cli.recipe.roles import LocalPath, Text
from red_cli.recipe.sections import Columns, Data, KeyFault, Train
from red_cli.recipe.tasks.base import TemplateChoice, TextSettings

_LARGEST_TEMPLATE = 500_000  # bytes; the run folder's recipe contains the text
OWN = "own"
OWN_NAMED = "own:"  # before the name of one of several templates of a tokenizer
NAMED_TEMPLATES = ("alpaca", "human-assistant")
_files: dict[str, str] = {}  # the text of a template that was read -> the name of its file, for messages


def read_template(template: str) -> str:
    """The text of a template file; a known name or a template's text is returned unchanged.

    Raises:
        ValueError: the file does not exist, or is not a template.
    """
    if not is_template_file(template):
        return template
    path = Path(template)
    if not _is_file(path):
        near = nearest(path.name, (OWN, *NAMED_TEMPLATES))
        meant = f" (nearest: {near[0]})" if near else ""
        raise ValueError(f"{OWN}, {', '.join(NAMED_TEMPLATES)} or a Jinja file{meant}; there is no such file")
    if path.stat().st_size > _LARGEST_TEMPLATE:
        raise ValueError(f"a Jinja file; {one_line(template)} is too large")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"a Jinja file; {one_line(template)} is not a text file") from None
    if is_template_file(text):
        raise ValueError(f"a Jinja file; {one_line(template)} has no expression in braces")
    if "\0" in text:
        raise ValueError(f"a Jinja file; {one_line(template)} contains a NUL character")
    _files[text] = path.name
    return text


def template_file(text: str) -> str | None:
    """The name of the file that a template's text was read from; None if this process read none."""
    return _files.get(text)


def _is_file(path: Path) -> bool:
    """Whether a template file exists; names that no file can have are not files."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or not a valid path
        return False


def is_template_file(template: str) -> bool:
    """Whether task.template is a file name rather than a known name or a template's text."""
    known = template in (OWN, *NAMED_TEMPLATES) or template.startswith(OWN_NAMED)
    return not known and "{{" not in template and "{%" not in template


class InstructionSettings(TextSettings):
    """Conversations, prompts with completions, or instructions with outputs -> the assistant's messages."""

    name: Literal["instruction"]
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
