"""The sections model, data, eval, output, launch and decoding of a recipe, and their value types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from red_cli.recipe.metrics import Metric, TextMetric
from red_cli.recipe.roles import V0_2, LocalPath, Role

_MOST = 1_000_000_000  # of any count: a larger number is a typing error, and would overflow

Share = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0, le=_MOST)]
CountFromZero = Annotated[int, Field(ge=0, le=_MOST)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Dtype = Literal["float32", "bfloat16", "float16"]
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


Strategy = Literal["auto", "single", "ddp", "zero2", "zero3", "fsdp"]
DEEPSPEED = ("zero2", "zero3")
SHARDED = ("zero3", "fsdp")  # each process has a part of the base


class Launch(Section):
    """The processes and devices of a run. They do not change the result of training."""

    strategy: Strategy = Field(
        default="auto",
        description="single, ddp (a full base on each device), zero2, zero3 (DeepSpeed; extra: deepspeed) or fsdp; "
        "zero3 and fsdp shard the base. auto: single for one process; else ddp if the base fits on each device, else "
        "zero3, or fsdp without DeepSpeed.",
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
    shard_size: Annotated[Count | None, V0_2] = Field(
        default=None,
        description="With fsdp: so many processes divide a base, such as those of one machine, and each such group has "
        "a whole one, so that no layer is fetched from another machine; default: all of them.",
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


class Model(Section):
    """The base model."""

    name_or_path: Annotated[str, Role.BASE, LocalPath.OR_HUB_NAME] = Field(
        description="The base: a model folder, or a name on the Hugging Face Hub."
    )
    revision: Annotated[str | None, Role.BASE] = Field(default=None, description="Branch, tag or commit on the Hub.")
    dtype: Annotated[Literal[Dtype, "auto"], Role.BASE] = Field(
        default="auto",
        description="dtype of the frozen base; auto: that of its files, but float32 for methods that train the base's "
        "own parameters, for float16 on a CPU, for bfloat16 on one without instructions for it, and for both on MPS. "
        "A run records which. Vectors are always float32.",
    )
    quantization: Annotated[Literal["int8", "nf4"] | None, Role.BASE, V0_2] = Field(
        default=None, description="Load the frozen base in 8 or 4 bits (8bit, 4bit) with bitsandbytes (extra: quant)."
    )
    dropout: Annotated[Dropout | None, Role.BASE] = Field(
        default=None, description="Every dropout rate of the base; default: the base's own."
    )
    classifier_dropout: Annotated[Dropout | None, Role.BASE, V0_2] = Field(
        default=None, description="Dropout of the classification head; default: the base's own."
    )
    trust_remote_code: Annotated[bool, Role.BASE] = Field(
        default=False,
        description="Run Python code bundled with the model. The recipe of an opened folder cannot set this.",
    )

    @field_validator("quantization", mode="before")
    @classmethod
    def _by_bits(cls, value: Any) -> Any:
        return {"8bit": "int8", "4bit": "nf4"}.get(value, value) if isinstance(value, str) else value


class Eval(Section):
    """How results are scored."""

    split: Annotated[Literal["standard", "paper"], Role.SPLIT, V0_2] = Field(
        default="standard",
        description="standard: the validation split selects the best evaluation and is scored. paper: the paper's "
        "splits of GLUE, drawn with train.seed: one part of the official validation set selects, the other is scored.",
    )
    metric: Annotated[Metric | None, Role.METRIC] = Field(
        default=None,
        description="The metric that selects the best checkpoint; default: the task's own, and for "
        "classification macro F1 where one class has more than half of the training rows.",
    )
    metrics: Annotated[list[TextMetric | Literal["loss"]] | None, Role.FIGURES, V0_2] = Field(
        default=None,
        description="Metrics of generated texts (extra: nlg), and loss; default: loss, and for e2e its five. A list "
        "without loss saves its pass over all rows, unless loss selects the best checkpoint of a training.",
    )
    untuned: Annotated[bool, Role.RECORDING, V0_2] = Field(
        default=True,
        description="Score the selection split before training too; of generated texts at most 200 rows.",
    )
    batch_size: Annotated[Count | None, Role.INFERENCE_BATCH] = Field(
        default=None, description="Sequences per batch; default: twice the training's."
    )
    samples: Annotated[CountFromZero, Role.RECORDING, V0_2] = Field(
        default=0,
        description="Generation and instruction: show and log the answers to this many prompts of the selection split, "
        "the same ones at each evaluation.",
    )
    max_rows: Annotated[Count | None, Role.TRAINING, V0_2] = Field(
        default=None,
        description="During training evaluate on at most this many rows of the selection split, always the same, drawn "
        "by class with train.seed; the final evaluation takes all rows. Default: all.",
    )
    generation: Annotated[Decoding | None, Role.DECODING, V0_2] = Field(
        default=None, description="How texts are generated, in tasks that generate."
    )

    @property
    def max_new_tokens(self) -> int | None:
        """The largest number of tokens of a generated text, if the recipe sets it."""
        return None if self.generation is None else self.generation.max_new_tokens


class Output(Section):
    """Where the run is written."""

    dir: Annotated[str | None, LocalPath.FROM_HERE] = Field(
        default=None, description="Run folder; default: runs/<recipe>[-<variant>]-seed<seed>."
    )
