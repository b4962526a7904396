"""Keys of conversations: the task, its columns, data that is filtered or streamed, and the faults between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from red_cli.errors import nearest, one_line
from red_cli.recipe.roles import LocalPath, Role, Text
from red_cli.recipe.section import Count, Section, TaskSettings

_LARGEST_TEMPLATE = 500_000  # bytes; it becomes part of the recipe in the folder of a run
OWN = "own"
NAMED_TEMPLATES = ("alpaca", "human-assistant")
SplitName = Literal["train", "validation", "test"]
Fault = tuple[tuple[str, ...], str]  # key path, what is wrong


class InstructionTask(TaskSettings):
    """Conversations, prompts with completions, or instructions with outputs -> what the assistant says."""

    name: Literal["instruction"]
    template: Annotated[str, LocalPath.OR_TEMPLATE] = Field(
        default=OWN,
        description="How a conversation is written: own (the chat template of the model), alpaca, human-assistant, or "
        "a Jinja file; in the recipe of a run, its text.",
    )
    template_variables: Annotated[dict[str, str | int | float | bool], Text.MAY_BE_EMPTY] = Field(
        default_factory=dict,
        description="Further variables of the chat template, such as date_string.",
    )
    train_on_prompt: bool = Field(default=False, description="Learn every token, not the assistant's turns alone.")

    @field_validator("template")
    @classmethod
    def _text_of_a_file(cls, template: str) -> str:
        if not is_template_file(template):
            return template
        path = Path(template)
        if not _is_file(path):
            near = nearest(path.name, (OWN, *NAMED_TEMPLATES))
            meant = f" (nearest: {near[0]})" if near else ""
            raise ValueError(f"{OWN}, {', '.join(NAMED_TEMPLATES)} or a Jinja file{meant}; there is no such file")
        if path.stat().st_size > _LARGEST_TEMPLATE:
            raise ValueError(f"a Jinja file; {one_line(template)} is too large for one")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"a Jinja file; {one_line(template)} is no text") from None
        if is_template_file(text):
            raise ValueError(f"a Jinja file; {one_line(template)} has nothing in braces")
        if "\0" in text:
            raise ValueError(f"a Jinja file; {one_line(template)} holds a NUL character")
        return text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or none
        return False


def is_template_file(template: str) -> bool:
    """Whether task.template names a file, rather than being a known name or a template's own text."""
    return template not in (OWN, *NAMED_TEMPLATES) and "{{" not in template and "{%" not in template


class ConversationColumns(Section):
    """Which column holds what of a conversation."""

    messages: str | None = Field(
        default=None, description="Instruction: column of lists of messages with role and content; default: messages."
    )
    instruction: str | None = Field(default=None, description="Instruction: its column; default: instruction.")
    input: str | None = Field(default=None, description="Instruction: what it is applied to; default: input, if any.")
    output: str | None = Field(default=None, description="Instruction: column of the answer; default: output.")


class ConversationData(Section):
    """How rows of conversations are read and chosen."""

    splits: Annotated[dict[SplitName, str] | None, Role.SOURCE] = Field(
        default=None, description="Other names of splits in a data set on the Hub, such as {train: train_sft}."
    )
    streaming: Annotated[bool, Role.READING] = Field(
        default=False,
        description="Instruction: read no more of the training rows than train.max_steps steps take, shuffled in a "
        "buffer; for data sets too large to fetch.",
    )
    max_prompt_length: Annotated[Count | None, Role.READING] = Field(
        default=None, description="Instruction: leave out rows with more tokens than this before the first answer."
    )


def faults_of_conversations(task: Any, data: Any, train: Any) -> list[Fault]:
    """Keys of conversations in another task, or such as go together badly."""
    faults: list[Fault] = []
    if not isinstance(task, InstructionTask):
        columns = [("data", "columns", name) for name in ConversationColumns.model_fields]
        idle: list[tuple[str, ...]] = [path for path in columns if getattr(data.columns, path[-1]) is not None]
        idle += [("data", name) for name in ("streaming", "max_prompt_length") if getattr(data, name)]
        faults += [(path, "is of the task instruction") for path in idle]
        if data.too_long == "drop":
            faults.append((("data", "too_long"), "drop is of the task instruction; cut or refuse"))
        return faults
    idle = [("data", "columns", name) for name in ("text", "text_pair", "label") if getattr(data.columns, name)]
    faults += [(path, "instruction has messages, prompt and completion, or instruction and output") for path in idle]
    if data.streaming and train.max_steps is None:
        faults.append((("data", "streaming"), "a stream has no length; say how long to train: train.max_steps"))
    if data.streaming and data.max_train_rows is not None:
        faults.append((("data", "max_train_rows"), "a stream is read as far as train.max_steps needs; drop one"))
    return faults
