"""The sections data, train, launch and decoding of a recipe, and their value types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from red_cli.recipe.roles import V0_2, LocalPath, Role

_MOST = 1_000_000_000  # of any count: a larger number is a typing error, and would overflow

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
    """How texts are generated: options of transformers' GenerationConfig, with its defaults."""

    max_new_tokens: Count | None = Field(
        default=None, description="Maximum tokens of a text; default: 128, or the longest label with text_to_text."
    )
    min_new_tokens: CountFromZero = Field(default=0, description="Minimum tokens of a text.")
    num_beams: Count = Field(default=1, description="Beams of beam search; 1: greedy search.")
    length_penalty: float = Field(
        default=1.0, description="Beam search: above 0 favours longer texts, below 0 shorter ones."
    )
    early_stopping: bool | Literal["never"] = Field(default=False, description="Beam search: when to stop.")
    no_repeat_ngram_size: CountFromZero = Field(
        default=0, description="No n-gram of this size occurs twice; 0: no limit."
    )
    repetition_penalty: Positive = Field(
        default=1.0, description="Above 1: tokens that occurred before are less likely."
    )
    do_sample: bool = Field(default=False, description="Sample tokens, with train.seed.")
    temperature: Positive = Field(
        default=1.0, description="Sampling: below 1 sharpens the distribution, above 1 flattens it."
    )
    top_k: CountFromZero = Field(default=50, description="Sampling: from the k likeliest tokens; 0: all.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Sampling: from the likeliest tokens with this total probability."
    )


def faults_of_decoding(decoding: Decoding | None, generates: bool) -> list[KeyFault]:
    """Keys of decoding, a section of the recipe, that have no effect: (key path, what is wrong)."""
    path = ("eval", "generation")
    if decoding is None:
        return []
    if not generates:
        return [(path, "this task generates no texts")]
    needs: dict[str, tuple[str, bool]] = {
        "length_penalty": ("num_beams above 1", decoding.num_beams > 1),
        "early_stopping": ("num_beams above 1", decoding.num_beams > 1),
        **dict.fromkeys(("temperature", "top_k", "top_p"), ("do_sample: true", decoding.do_sample)),
    }
    idle = [name for name, (_, met) in needs.items() if not met and getattr(decoding, name) != _default(name)]
    return [((*path, name), f"has an effect only with {needs[name][0]}") for name in idle]


def _default(name: str) -> Any:
    """The default value of a key of decoding, one of the sections of a recipe."""
    return Decoding.model_fields[name].default


Strategy = Literal["auto", "single", "ddp", "zero2", "zero3", "fsdp"]
DEEPSPEED = ("zero2", "zero3")
SHARDED = ("zero3", "fsdp")  # each process has a part of the base


class Launch(Section):
    """The processes and devices of a run. They do not change the result of training."""

    strategy: Strategy = Field(
        default="auto",
        description="single, ddp (a full base on each device), zero2, zero3 (DeepSpeed; extra: deepspeed) or fsdp; "
        "zero3 and fsdp shard the base. auto: ddp if the base fits on each device, else zero3.",
    )
    num_processes: Count | None = Field(
        default=None,
        description="Processes on all machines together, one per device; default: one for each visible device.",
    )
    num_machines: Count = Field(default=1, description="Number of machines; run the command on each.")
    machine_rank: CountFromZero = Field(default=0, description="Rank of this machine; 0 is the main one.")
    main_process_ip: str | None = Field(default=None, description="Address of the main machine.")
    main_process_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="A free port of the main machine; default: any, or 29500 with several machines."
    )
    timeout: Positive = Field(default=600.0, le=10_000_000, description="Seconds to wait for the other machines.")
    deepspeed_config: Annotated[str | None, LocalPath.ALWAYS] = Field(
        default=None, description="Your own DeepSpeed configuration (JSON)."
    )
    offload: bool = Field(default=False, description="With zero3: keep the base in CPU memory.")


SplitName = Literal["train", "validation", "test"]


class Columns(Section):
    """The columns of the data."""

    messages: Annotated[str | None, V0_2] = Field(
        default=None, description="Instruction: column of lists of messages with role and content; default: messages."
    )
    instruction: Annotated[str | None, V0_2] = Field(
        default=None, description="Instruction: column of the instruction; default: instruction."
    )
    input: Annotated[str | None, V0_2] = Field(
        default=None, description="Instruction: column of its input; default: input, if present."
    )
    output: Annotated[str | None, V0_2] = Field(
        default=None, description="Instruction: column of the answer; default: output."
    )
    text: str | None = Field(default=None, description="Column of the text; default: text, or sentence.")
    text_pair: str | None = Field(default=None, description="Column of the second text of a pair.")
    label: str | None = Field(default=None, description="Column of the label; default: label.")
    prompt: Annotated[str | None, V0_2] = Field(
        default=None, description="Generation: column of the prompt; default: prompt."
    )
    completion: Annotated[str | None, V0_2] = Field(
        default=None, description="Generation: column of the completion; default: completion."
    )


BadRows = Literal["refuse", "drop"]
DELIMITER_NAMES = {"\t": "tab"}  # how a recipe may write a delimiter that does not show


def _delimiter(value: str) -> str:
    """A value type of the recipe's sections: a delimiter, one character or tab, as recipes write it."""
    written = {"\\t": "tab", **DELIMITER_NAMES}.get(value, value)
    if written != "tab" and (len(written) != 1 or written in '"\r\n \0'):
        raise ValueError("one character, such as ';' or '|', or tab")
    return written


class Data(Section):
    """The data: sources, splits, columns, lengths."""

    splits: Annotated[dict[SplitName, str] | None, Role.SOURCE, V0_2] = Field(
        default=None, description="Names of the splits in a data set on the Hub, such as {train: train_sft}."
    )
    streaming: Annotated[bool, Role.READING, V0_2] = Field(
        default=False,
        description="Instruction: read only the training rows that train.max_steps needs, shuffled in a buffer, for "
        "data sets that are too large to download.",
    )
    max_prompt_length: Annotated[Count | None, Role.READING, V0_2] = Field(
        default=None, description="Instruction: drop rows with more tokens than this before the first answer."
    )
    path: Annotated[str | None, Role.SOURCE, LocalPath.OR_HUB_NAME] = Field(
        default=None,
        description="A folder with split files (train.csv, validation.csv, ...), one file, or a data set on the Hub.",
    )
    name: Annotated[str | None, Role.SOURCE] = Field(
        default=None, description="Configuration of a data set on the Hub."
    )
    revision: Annotated[str | None, Role.SOURCE, V0_2] = Field(
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
        default=None, description="Fraction of the training rows to use as validation split, drawn with train.seed."
    )
    delimiter: Annotated[str | None, AfterValidator(_delimiter), Role.SOURCE, V0_2] = Field(
        default=None,
        description="The character between the cells of CSV and TSV files, or tab; default: that of the ending, or "
        "another of , ; | and tab that fits the file.",
    )
    columns: Annotated[Columns, Role.READING] = Field(default_factory=Columns, description="The columns of the data.")
    max_train_rows: Annotated[Count | None, Role.READING, V0_2] = Field(
        default=None, description="Train on at most this many rows, drawn with train.seed."
    )
    max_length: Annotated[Count | None, Role.READING] = Field(
        default=None,
        description="Maximum tokens of a sequence (prompt and completion together; each, for an encoder-decoder); "
        "longer ones are truncated. Default: the maximum of the base.",
    )
    too_long: Annotated[Literal["cut", "refuse", "drop"], Role.READING, V0_2] = Field(
        default="cut",
        description="What to do with longer sequences. cut: truncate them (prompts at the start, conversations at the "
        "end); refuse: stop with an error; drop: leave them out (instruction only).",
    )
    bad_rows: Annotated[BadRows, Role.READING, V0_2] = Field(
        default="refuse",
        description="What to do with rows that cannot be used, such as an empty label or a turn without content. "
        "refuse: stop, with all of them counted by reason; drop: leave them out.",
    )

    @property
    def delimiter_character(self) -> str | None:
        """The character that data.delimiter stands for."""
        return "\t" if self.delimiter == "tab" else self.delimiter


SchedulerName = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]


_NONE = ("none", "null", "no", "false", "")


def _names(value: Any) -> Any:
    """A list of names as recipes may write it: one name, several with commas, or none."""
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in _NONE):
        return []
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    if isinstance(value, list) and len(value) == 1:
        return _names(value[0]) if isinstance(value[0], str | None) else value
    return value


ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("word")] | Annotated[dict[str, Positive], Field(min_length=1), Tag("mapping")],
    Discriminator(lambda value: "mapping" if isinstance(value, dict) else "word"),  # one message for a wrong value
]


class Train(Section):
    """How the parameters are trained."""

    seed: Annotated[int, Field(ge=0, lt=2**32), Role.SEED] = Field(
        default=42, description="Seed of head initialisation, order of rows and dropout."
    )
    learning_rate: Annotated[Positive | Literal["auto"], Role.TRAINING] = Field(
        default="auto",
        description="Peak learning rate; auto: the method's usual one where train.rates makes it fit any base, else "
        "found by a short search before the run.",
    )
    rates: Annotated[Literal["relative", "absolute"], Role.TRAINING, V0_2] = Field(
        default="relative",
        description="RED: relative multiplies the learning rate of each bias by the spread of its module's output and "
        "that of scales by 4, and divides both by the number of edited modules in a layer, so that one rate fits "
        "modules and bases; absolute: the same rate for every vector, as published.",
    )
    head_learning_rate: Annotated[Positive | None, Role.TRAINING] = Field(
        default=None, description="Learning rate of the head; default: learning_rate, undivided."
    )
    num_train_epochs: Annotated[Positive, Role.TRAINING] = Field(
        default=3.0, le=1_000_000, description="Epochs: passes over the training split."
    )
    max_steps: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Stop after this many optimiser steps; overrides num_train_epochs."
    )
    batch_size: Annotated[Count, Role.TRAINING] = Field(
        default=32, description="Sequences per optimiser step, over all devices."
    )
    micro_batch_size: Annotated[Count | None, Role.MICRO_BATCH] = Field(
        default=None, description="Sequences per forward pass on one device; default: found by trying."
    )
    lr_scheduler_type: Annotated[SchedulerName, Role.TRAINING] = Field(
        default="linear", description="Learning-rate schedule."
    )
    warmup_ratio: Annotated[float, Field(ge=0, le=1), Role.TRAINING] = Field(
        default=0.0, description="Fraction of the steps that warm up."
    )
    warmup_steps: Annotated[CountFromZero | None, Role.TRAINING] = Field(
        default=None, description="Number of warm-up steps, instead of warmup_ratio."
    )
    weight_decay: Annotated[NotNegative, Role.TRAINING] = Field(
        default=0.0, description="AdamW's, on biases and head. Not applied to scales, whose neutral value is 1."
    )
    adam_beta1: Annotated[float, Field(ge=0, lt=1), Role.TRAINING, V0_2] = Field(
        default=0.9, description="AdamW's decay rate of the mean of gradients."
    )
    adam_beta2: Annotated[float, Field(ge=0, lt=1), Role.TRAINING, V0_2] = Field(
        default=0.999, description="AdamW's decay rate of the mean of squared gradients."
    )
    adam_epsilon: Annotated[Positive, Role.TRAINING, V0_2] = Field(
        default=1e-8, description="AdamW's epsilon, added to the denominator of a step."
    )
    class_weights: Annotated[ClassWeights | None, Role.TRAINING, V0_2] = Field(
        default=None,
        description="Classification: how much the rows of a class count in the training loss, {label: weight}, others "
        "1; balanced: the rarer the more. The loss of a step is the weighted mean; metrics are not weighted.",
    )
    max_grad_norm: Annotated[Positive | None, Role.TRAINING] = Field(
        default=1.0, description="Clip the gradient's norm to this value; null: no clipping."
    )
    bf16: Annotated[bool | Literal["auto"], Role.TRAINING] = Field(
        default="auto", description="bfloat16 autocast; auto: if the device supports it, except CPUs and MPS."
    )
    gradient_checkpointing: Annotated[bool, Role.TRAINING] = Field(
        default=False, description="Recompute activations in the backward pass: less memory, more time."
    )
    packing: Annotated[bool, Role.TRAINING, V0_2] = Field(
        default=False,
        description="Pack the sequences of a step instead of padding, without attention across them.",
    )
    group_by_length: Annotated[bool, Role.TRAINING] = Field(
        default=True, description="Batch the rows of a step by similar length, which reduces padding."
    )
    logging_steps: Annotated[Count, Role.RECORDING] = Field(default=10, description="Steps between lines of log.jsonl.")
    eval_steps: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Steps between evaluations; default: one per epoch."
    )
    save_steps: Annotated[Count | None, Role.RECORDING] = Field(
        default=None, description="Steps between checkpoints; default: at evaluations."
    )
    save_total_limit: Annotated[Count, Role.RECORDING] = Field(default=2, description="Number of checkpoints to keep.")
    early_stopping_patience: Annotated[Count | None, Role.TRAINING] = Field(
        default=None, description="Stop after this many evaluations without improvement."
    )
    report_to: Annotated[list[str], BeforeValidator(_names), Role.RECORDING] = Field(
        default_factory=list,
        description="Trackers: tensorboard (extra: track), wandb, mlflow, trackio; [] or none: no tracker.",
    )
    init_from: Annotated[str | None, Role.TRAINING, LocalPath.ALWAYS, V0_2] = Field(
        default=None,
        description="A finished run or an adapter whose trained parameters, head included, this run starts from: of "
        "the same base, method, modules and labels. Default: a new adapter.",
    )
    resume_from_checkpoint: Annotated[bool | str, Role.RECORDING, LocalPath.FROM_HERE] = Field(
        default=False, description="Resume from the last checkpoint of the run folder (true), or from the one given."
    )
