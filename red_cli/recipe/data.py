"""Keys that say where the rows come from, and which column of them holds what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from red_cli.recipe.roles import LocalPath, Role
from red_cli.recipe.section import Count, Section, Share

SplitName = Literal["train", "validation", "test"]


class Columns(Section):
    """Which column of the data holds what."""

    messages: str | None = Field(
        default=None, description="Instruction: column of lists of messages with role and content; default: messages."
    )
    instruction: str | None = Field(default=None, description="Instruction: its column; default: instruction.")
    input: str | None = Field(default=None, description="Instruction: what it is applied to; default: input, if any.")
    output: str | None = Field(default=None, description="Instruction: column of the answer; default: output.")
    text: str | None = Field(default=None, description="Column of the text; default: text, or sentence.")
    text_pair: str | None = Field(default=None, description="Column of the second text of a pair.")
    label: str | None = Field(default=None, description="Column of the label; default: label.")
    prompt: str | None = Field(default=None, description="Generation: column of the prompt; default: prompt.")
    completion: str | None = Field(default=None, description="Generation: its column; default: completion.")


class Data(Section):
    """Where the rows come from."""

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
    path: Annotated[str | None, Role.SOURCE, LocalPath.OR_HUB_NAME] = Field(
        default=None,
        description="A folder with split files (train.csv, validation.csv, ...), one file, or a data set on the Hub.",
    )
    name: Annotated[str | None, Role.SOURCE] = Field(
        default=None, description="Configuration of a data set on the Hub."
    )
    revision: Annotated[str | None, Role.SOURCE] = Field(
        default=None, description="Branch, tag or commit of a data set on the Hub."
    )
    train: Annotated[str | None, Role.SOURCE, LocalPath.ALWAYS] = Field(
        default=None, description="File of the training split."
    )
    validation: Annotated[str | None, Role.SOURCE, LocalPath.ALWAYS] = Field(
        default=None, description="File of the validation split."
    )
    test: Annotated[str | None, Role.SOURCE, LocalPath.ALWAYS] = Field(
        default=None, description="File of the test split."
    )
    validation_share: Annotated[Share | None, Role.SOURCE] = Field(
        default=None, description="Take this share of the training rows as validation split (drawn by train.seed)."
    )
    columns: Annotated[Columns, Role.READING] = Field(default_factory=Columns, description="Which column holds what.")
    max_train_rows: Annotated[Count | None, Role.READING] = Field(
        default=None, description="Train on so many rows only, drawn by train.seed; all if there are fewer."
    )
    max_length: Annotated[Count | None, Role.READING] = Field(
        default=None,
        description="Longest sequence in tokens (of prompt and completion together, of an encoder-decoder each); "
        "longer ones are cut. Default: the most the base takes.",
    )
    too_long: Annotated[Literal["cut", "refuse", "drop"], Role.READING] = Field(
        default="cut",
        description="Cut sequences that are too long (prompts lose their beginning, conversations their end), refuse "
        "them, or leave them out (drop: instruction only).",
    )
