"""Every key of a recipe: its type, default and meaning. Unknown keys are forbidden."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator, model_validator

from red_cli.edit.config import RedConfig
from red_cli.recipe.commonsense import COMMONSENSE_METRICS, CommonsenseTask
from red_cli.recipe.data import Data
from red_cli.recipe.instruction import InstructionTask, faults_of_conversations
from red_cli.recipe.launch import Launch, faults_of_launch
from red_cli.recipe.method import Ia3, Lora, MethodName
from red_cli.recipe.metric_names import E2E_METRICS, Metric, TextMetric
from red_cli.recipe.paper import Paper, paper_mismatch
from red_cli.recipe.section import Count, NotNegative, Positive, Section, TaskSettings
from red_cli.recipe.text import (
    Decoding,
    E2eTask,
    GenerationTask,
    LabelTexts,
    Template,
    faults_of_decoding,
    faults_of_texts,
)

GlueSubset = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]
SchedulerName = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]
_TEXT_TO_TEXT = "Have an encoder-decoder write the answer as text, instead of training a head."
_INPUT_TEMPLATE = "With text_to_text: what the encoder reads, columns in braces; default: the text or the pair."
_LABEL_TEXTS = "With text_to_text: what is written for each label, in the order of their ids; default: their names."


class ClassificationTask(TaskSettings):
    """One text or a pair of texts -> one of several labels."""

    name: Literal["classification"]
    labels: list[str] | None = Field(
        default=None, min_length=2, description="Label names in the order of their ids; learnt from the data if absent."
    )
    text_to_text: bool = Field(default=False, description=_TEXT_TO_TEXT)
    prompt_template: Template | None = Field(default=None, description=_INPUT_TEMPLATE)
    label_texts: LabelTexts | None = Field(default=None, description=_LABEL_TEXTS)

    @field_validator("labels")
    @classmethod
    def _no_repeats(cls, labels: list[str] | None) -> list[str] | None:
        if labels is not None and len(set(labels)) != len(labels):
            raise ValueError("each label once")
        return labels


class RegressionTask(TaskSettings):
    """One text or a pair of texts -> a number."""

    name: Literal["regression"]
    text_to_text: bool = Field(default=False, description=_TEXT_TO_TEXT)
    prompt_template: Template | None = Field(default=None, description=_INPUT_TEMPLATE)
    decimals: Annotated[int, Field(ge=0, le=9)] = Field(
        default=1, description="With text_to_text: digits after the point in the numbers that are written."
    )


class GlueTask(TaskSettings):
    """A task of the GLUE benchmark: its columns, label names and metrics are known."""

    name: Literal["glue"]
    subset: GlueSubset = Field(description="Which of the GLUE tasks.")
    text_to_text: bool = Field(default=False, description=_TEXT_TO_TEXT)
    prompt_template: Template | None = Field(default=None, description=_INPUT_TEMPLATE)
    label_texts: LabelTexts | None = Field(default=None, description=_LABEL_TEXTS)


Task = Annotated[
    ClassificationTask | RegressionTask | GlueTask | GenerationTask | E2eTask | InstructionTask | CommonsenseTask,
    Field(discriminator="name"),
]


class Model(Section):
    """The base that stays frozen."""

    name_or_path: str = Field(description="The base: a model folder, or a name on the Hugging Face Hub.")
    revision: str | None = Field(default=None, description="Branch, tag or commit on the Hub.")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        default="float32",
        description="dtype of the frozen base; auto takes the checkpoint's. Vectors are float32 always.",
    )
    quantization: Literal["int8", "nf4"] | None = Field(
        default=None, description="Load the frozen base in 8 or 4 bits (8bit, 4bit) by bitsandbytes (extra: quant)."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Sets every dropout of the base; the base's own values if absent."
    )
    classifier_dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Dropout of the classification head; the base's own if absent."
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run Python code that comes with the model (a recipe in a folder that is opened cannot allow it).",
    )

    @field_validator("quantization", mode="before")
    @classmethod
    def _by_bits(cls, value: Any) -> Any:
        return {"8bit": "int8", "4bit": "nf4"}.get(value, value) if isinstance(value, str) else value


class Train(Section):
    """How the vectors are learnt."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=42, description="Decides head initialisation, order and dropout."
    )
    learning_rate: Positive | Literal["auto"] = Field(
        default=1e-3, description="Peak learning rate; auto: a short search before the run finds it."
    )
    head_learning_rate: Positive | None = Field(default=None, description="Of the head; default: learning_rate.")
    num_train_epochs: Positive = Field(default=3.0, description="Passes over the training split.")
    max_steps: Count | None = Field(
        default=None, description="Stop after so many optimiser steps, whatever the epochs."
    )
    batch_size: Count = Field(default=32, description="Sequences per optimiser step over all devices.")
    micro_batch_size: Count | None = Field(
        default=None, description="Sequences at once on one device; found by trying if absent."
    )
    lr_scheduler_type: SchedulerName = Field(default="linear", description="Shape of the learning rate over the steps.")
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="Share of the steps to warm up in."
    )
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Instead of warmup_ratio.")
    weight_decay: NotNegative = Field(
        default=0.0, description="AdamW's, on biases and head. Scales are spared: decay would pull them to 0, not to 1."
    )
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    adam_epsilon: Positive = 1e-8
    max_grad_norm: Positive | None = Field(default=1.0, description="Clip the gradient's norm to this; null: never.")
    bf16: bool | Literal["auto"] = Field(default="auto", description="bfloat16 autocast; auto: where a GPU has it.")
    gradient_checkpointing: bool = Field(default=False, description="Less memory for more time.")
    packing: bool = Field(
        default=False,
        description="Lay the texts of a step one behind another, with no attention across them, instead of padding.",
    )
    group_by_length: bool = Field(default=True, description="Pad rows of a step with rows of similar length.")
    logging_steps: Count = Field(default=10, description="Write a line to log.jsonl every so many steps.")
    eval_steps: Count | None = Field(default=None, description="Evaluate every so many steps; default: every epoch.")
    save_steps: Count | None = Field(
        default=None, description="Checkpoint every so many steps; default: at evaluations."
    )
    save_total_limit: Count = Field(default=2, description="How many checkpoints to keep.")
    early_stopping_patience: Count | None = Field(
        default=None, description="Stop after so many evaluations without a better metric."
    )
    report_to: list[str] = Field(default_factory=list, description="Trackers, e.g. [tensorboard] (extra: track).")
    resume_from_checkpoint: bool | str = Field(
        default=False, description="Go on from the run folder's last checkpoint (true), or from the one named."
    )


class Eval(Section):
    """How the result is scored."""

    split: Literal["standard", "paper"] = Field(
        default="standard",
        description="standard: the validation split chooses the best evaluation, and is scored. paper: the paper's cut "
        "of GLUE, drawn by train.seed: part of the official validation set chooses, the other part is scored.",
    )
    metric: Metric | None = Field(default=None, description="Chooses the best checkpoint; default: the task's own.")
    metrics: list[TextMetric] | None = Field(
        default=None, description="Metrics of generated texts (extra: nlg); default: E2E NLG's five for it, else none."
    )
    batch_size: Count | None = Field(default=None, description="Sequences at once; default: twice the training's.")
    generation: Decoding | None = Field(default=None, description="How texts are generated, in tasks that do.")


class Output(Section):
    """Where the run goes."""

    dir: str | None = Field(default=None, description="Run folder; default: runs/<recipe>[-<variant>]-seed<seed>.")


class Recipe(Section):
    """A recipe, resolved: the variant merged in, overrides applied."""

    task: Task
    model: Model
    method: MethodName = Field(
        default="red", description="What is trained: RED, or a method to compare it with (lora, ia3: extra baselines)."
    )
    red: RedConfig = Field(default_factory=RedConfig)
    lora: Lora | None = Field(default=None, description="Options of method lora.")
    ia3: Ia3 | None = Field(default=None, description="Options of method ia3.")
    data: Data = Field(default_factory=Data)
    train: Train = Field(default_factory=Train)
    eval: Eval = Field(default_factory=Eval)
    launch: Launch = Field(default_factory=Launch)
    output: Output = Field(default_factory=Output)
    paper: Paper | None = None

    @model_validator(mode="after")
    def _options_of_the_method(self) -> Recipe:
        if self.method == "lora" and self.lora is None:
            self.lora = Lora()
        if self.method == "ia3" and self.ia3 is None:
            self.ia3 = Ia3()
        return self

    @model_validator(mode="after")
    def _texts_are_generated_somehow(self) -> Recipe:
        if generates_text(self) and self.eval.generation is None:
            self.eval.generation = Decoding()
        return self


class RecipeFile(Recipe):
    """A recipe as it is written: with named variants, each a part of a recipe laid over it."""

    variants: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict, description="Named changes to the recipe, chosen with --variant."
    )


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data with every key that has a value, or a null that differs from the default."""
    return _without_absent(recipe)


def _without_absent(section: BaseModel) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            data[name] = _without_absent(value)
        elif value is not None or field.default is not None:
            data[name] = value
    return data


def paper_figure(recipe: Recipe) -> dict[str, Any] | None:
    """The paper's figure; None where the recipe has none, or trains another base, task or method than the paper."""
    if recipe.paper is None or paper_mismatch(recipe) is not None:
        return None
    return recipe.paper.model_dump(exclude_none=True)


def is_regression(recipe: Recipe) -> bool:
    """Whether the task's answers are numbers."""
    return recipe.task.name == "regression" or getattr(recipe.task, "subset", None) == "stsb"


def generates_text(recipe: Recipe) -> bool:
    """Whether the task's answers are texts that a model writes."""
    writes = GenerationTask | E2eTask | InstructionTask | CommonsenseTask
    return isinstance(recipe.task, writes) or recipe.task.text_to_text


def metrics_of(recipe: Recipe) -> tuple[str, ...]:
    """The metrics that can choose the best checkpoint, the task's own first."""
    if isinstance(recipe.task, GenerationTask | InstructionTask):
        return ("loss", "exact_match", *get_args(TextMetric))
    if isinstance(recipe.task, E2eTask):
        return ("loss", *get_args(TextMetric))
    if isinstance(recipe.task, CommonsenseTask):
        return COMMONSENSE_METRICS
    return ("pearson", "spearman") if is_regression(recipe) else ("accuracy", "f1", "matthews_correlation")


def text_metrics(recipe: Recipe) -> tuple[str, ...]:
    """The metrics of generated texts: those that are named, else the task's own; and the one that chooses."""
    own = E2E_METRICS if isinstance(recipe.task, E2eTask) else ()
    named = own if recipe.eval.metrics is None else recipe.eval.metrics
    chosen = [recipe.eval.metric] if recipe.eval.metric in get_args(TextMetric) else []
    return tuple(dict.fromkeys([*named, *chosen]))


def inconsistencies(recipe: Recipe) -> list[tuple[tuple[str, ...], str]]:
    """Faults that only show between keys: (key path, what is wrong)."""
    faults = [
        *faults_of_texts(recipe.task, recipe.data.columns, is_regression(recipe)),
        *faults_of_decoding(recipe.eval.generation, generates_text(recipe)),
        *faults_of_conversations(recipe.task, recipe.data, recipe.train),
        *faults_of_launch(recipe),
    ]
    train, data = recipe.train, recipe.data
    if train.warmup_steps is not None and train.warmup_ratio > 0:
        faults.append((("train", "warmup_steps"), "give warmup_steps or warmup_ratio, not both"))
    if train.micro_batch_size is not None and train.micro_batch_size > train.batch_size:
        faults.append((("train", "micro_batch_size"), f"larger than batch_size ({train.batch_size})"))
    files = [name for name in ("train", "validation", "test") if getattr(data, name) is not None]
    if recipe.task.name == "commonsense" and data.train is None:
        files = []  # the joint file is for training alone: tests lie elsewhere
    if data.path is not None and files:
        faults.append((("data", files[0]), "give data.path or single files, not both (data.path=null drops the path)"))
    if data.validation is not None and data.validation_share is not None:
        faults.append((("data", "validation_share"), "give data.validation or data.validation_share, not both"))
    if recipe.task.name not in ("glue", "e2e") and data.path is None and data.train is None:
        faults.append((("data",), "name the data: data.path, or data.train and data.validation"))
    if recipe.eval.split == "paper":
        if recipe.task.name != "glue":
            what = "the paper's cut is of GLUE's validation sets; with other data use standard and a test split"
            faults.append((("eval", "split"), what))
        elif data.validation_share is not None:
            faults.append((("eval", "split"), "paper cuts the official validation set; drop data.validation_share"))
    if train.packing and not isinstance(recipe.task, GenerationTask | E2eTask | InstructionTask):
        faults.append((("train", "packing"), f"packing is for tasks that learn texts; {recipe.task.name} pads"))
    wanted = metrics_of(recipe)
    if recipe.eval.metrics and not isinstance(recipe.task, GenerationTask | E2eTask | InstructionTask):
        faults.append((("eval", "metrics"), f"they are of generated texts; {recipe.task.name} has its own"))
    if recipe.method in ("full", "bitfit") and recipe.model.quantization is not None:
        faults.append((("method",), f"{recipe.method} trains the base's own parameters; drop model.quantization"))
    if recipe.method in ("full", "bitfit") and recipe.model.dtype in ("bfloat16", "float16"):
        faults.append((("model", "dtype"), f"method {recipe.method} takes float32 (train.bf16 computes in bfloat16)"))
    if recipe.lora is not None and recipe.lora.positions is not None and recipe.lora.target_modules is not None:
        faults.append((("lora", "target_modules"), "give lora.positions or lora.target_modules, not both"))
    if recipe.method == "head" and generates_text(recipe):
        faults.append((("method",), "a language model has no head of its own to train"))
    if train.head_learning_rate is not None and generates_text(recipe):
        faults.append((("train", "head_learning_rate"), "a language model has no new head; drop this key"))
    if recipe.method == "head" and train.learning_rate == "auto" and train.head_learning_rate is not None:
        faults.append((("train", "head_learning_rate"), "nothing is left for learning_rate: auto to find"))
    if recipe.eval.metric is not None and recipe.eval.metric not in wanted:
        faults.append((("eval", "metric"), f"this task is scored by {', '.join(wanted)}"))
    return faults
