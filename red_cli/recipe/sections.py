"""The sections of a recipe that stand for themselves: data, train, launch and decoding; and their value types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from red_cli.recipe.roles import LocalPath, Role

_MOST = 1_000_000_000  # of anything counted: a larger number is a slip, and would overflow

Share = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0, le=_MOST)]
CountFromZero = Annotated[int, Field(ge=0, le=_MOST)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
KeyFault = tuple[tuple[str, ...], str]  # key path, what is wrong with its value


class Section(BaseModel):
    """A section of a recipe."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)


class Decoding(Section):
    """How texts are generated: the options of transformers' GenerationConfig, with its defaults."""

    max_new_tokens: Count | None = Field(
        default=None, description="Most tokens of a text; default: 128, or the longest label with text_to_text."
    )
    min_new_tokens: CountFromZero = Field(default=0, description="Fewest tokens of a text.")
    num_beams: Count = Field(default=1, description="Beam search with so many beams; 1: the likeliest token each time.")
    length_penalty: float = Field(default=1.0, description="Beam search: above 0 favours longer texts, below shorter.")
    early_stopping: bool | Literal["never"] = Field(default=False, description="Beam search: when a text is settled.")
    no_repeat_ngram_size: CountFromZero = Field(default=0, description="No run of so many tokens twice; 0: any.")
    repetition_penalty: Positive = Field(default=1.0, description="Above 1: what was there already is less likely.")
    do_sample: bool = Field(default=False, description="Draw tokens at random, by train.seed.")
    temperature: Positive = Field(default=1.0, description="Sampling: below 1 sharper, above 1 flatter.")
    top_k: CountFromZero = Field(default=50, description="Sampling: among so many tokens; 0: all.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(default=1.0, description="Sampling: among this share.")


def faults_of_decoding(decoding: Decoding | None, generates: bool) -> list[KeyFault]:
    """Options that have no effect, because of the others."""
    path = ("eval", "generation")
    if decoding is None:
        return []
    if not generates:
        return [(path, "this task's answers are no texts")]
    needs: dict[str, tuple[str, bool]] = {
        "length_penalty": ("num_beams above 1", decoding.num_beams > 1),
        "early_stopping": ("num_beams above 1", decoding.num_beams > 1),
        **dict.fromkeys(("temperature", "top_k", "top_p"), ("do_sample: true", decoding.do_sample)),
    }
    idle = [name for name, (_, met) in needs.items() if not met and getattr(decoding, name) != _default(name)]
    return [((*path, name), f"has an effect only with {needs[name][0]}") for name in idle]


def _default(name: str) -> Any:
    return Decoding.model_fields[name].default


Strategy = Literal["auto", "single", "ddp", "zero2", "zero3", "fsdp"]
DEEPSPEED = ("zero2", "zero3")
SHARDED = ("zero3", "fsdp")  # each process holds a part of the base


class Launch(Section):
    """The processes and devices of a run. Nothing here changes the result of training."""

    strategy: Strategy = Field(
        default="auto",
        description="single, ddp (the base whole on each device), zero2, zero3 (DeepSpeed; extra: deepspeed) or fsdp; "
        "zero3 and fsdp spread the base over the devices. auto: ddp where the base fits on each, else zero3.",
    )
    num_processes: Count | None = Field(
        default=None, description="Processes on all machines together, one for each device; default: all visible ones."
    )
    num_machines: Count = Field(default=1, description="How many machines; the command is given on each.")
    machine_rank: CountFromZero = Field(default=0, description="Which of the machines this is, from 0, the main one.")
    main_process_ip: str | None = Field(default=None, description="Address of the main machine.")
    main_process_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="A free port of the main machine; default: any, on several machines 29500."
    )
    timeout: Positive = Field(default=600.0, le=10_000_000, description="Seconds to wait for the other machines.")
    deepspeed_config: Annotated[str | None, LocalPath.ALWAYS] = Field(
        default=None, description="A DeepSpeed configuration (JSON) of one's own."
    )
    offload: bool = Field(default=False, description="With zero3: keep the base in the machine's memory.")


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


SchedulerName = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]


class Train(Section):
    """How the vectors are trained."""

    seed: Annotated[int, Field(ge=0, lt=2**32), Role.SEED] = Field(
        default=42, description="Decides head initialisation, order and dropout."
    )
    learning_rate: Annotated[Positive | Literal["auto"], Role.TRAINING] = Field(
        default=1e-3, description="Peak learning rate; auto: a short search before the run finds it."
    )
    head_learning_rate: Annotated[Positive | None, Role.TRAINING] = Field(
        default=None, description="Of the head; default: learning_rate."
    )
    num_train_epochs: Annotated[Positive, Role.TRAINING] = Field(
        default=3.0, le=1_000_000, description="Passes over the training split."
    )
    max_steps: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Stop after so many optimiser steps, whatever the epochs."
    )
    batch_size: Annotated[Count, Role.TRAINING] = Field(
        default=32, description="Sequences per optimiser step over all devices."
    )
    micro_batch_size: Annotated[Count | None, Role.MICRO_BATCH] = Field(
        default=None, description="Sequences at once on one device; found by trying if absent."
    )
    lr_scheduler_type: Annotated[SchedulerName, Role.TRAINING] = Field(
        default="linear", description="Shape of the learning rate over the steps."
    )
    warmup_ratio: Annotated[float, Field(ge=0, le=1), Role.TRAINING] = Field(
        default=0.0, description="Share of the steps to warm up in."
    )
    warmup_steps: Annotated[CountFromZero | None, Role.TRAINING] = Field(
        default=None, description="Instead of warmup_ratio."
    )
    weight_decay: Annotated[NotNegative, Role.TRAINING] = Field(
        default=0.0, description="AdamW's, on biases and head. Scales are spared: decay would pull them to 0, not to 1."
    )
    adam_beta1: Annotated[float, Field(ge=0, lt=1), Role.TRAINING] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1), Role.TRAINING] = 0.999
    adam_epsilon: Annotated[Positive, Role.TRAINING] = 1e-8
    max_grad_norm: Annotated[Positive | None, Role.TRAINING] = Field(
        default=1.0, description="Clip the gradient's norm to this; null: never."
    )
    bf16: Annotated[bool | Literal["auto"], Role.TRAINING] = Field(
        default="auto", description="bfloat16 autocast; auto: where a GPU has it."
    )
    gradient_checkpointing: Annotated[bool, Role.TRAINING] = Field(
        default=False, description="Less memory for more time."
    )
    packing: Annotated[bool, Role.TRAINING] = Field(
        default=False,
        description="Lay the texts of a step one behind another, with no attention across them, instead of padding.",
    )
    group_by_length: Annotated[bool, Role.TRAINING] = Field(
        default=True, description="Pad rows of a step with rows of similar length."
    )
    logging_steps: Annotated[Count, Role.RECORDING] = Field(
        default=10, description="Write a line to log.jsonl every so many steps."
    )
    eval_steps: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Evaluate every so many steps; default: every epoch."
    )
    save_steps: Annotated[Count | None, Role.RECORDING] = Field(
        default=None, description="Checkpoint every so many steps; default: at evaluations."
    )
    save_total_limit: Annotated[Count, Role.RECORDING] = Field(default=2, description="How many checkpoints to keep.")
    early_stopping_patience: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Stop after so many evaluations without a better metric."
    )
    report_to: Annotated[list[str], Role.RECORDING] = Field(
        default_factory=list, description="Trackers, e.g. [tensorboard] (extra: track)."
    )
    resume_from_checkpoint: Annotated[bool | str, Role.RECORDING] = Field(
        default=False, description="Go on from the run folder's last checkpoint (true), or from the one named."
    )
