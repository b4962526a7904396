"""Every key of a recipe: its type, default and meaning. Unknown keys are forbidden."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from red_cli.recipe.commonsense import COMMONSENSE_METRICS, CommonsenseTask
from red_cli.recipe.data import Data
from red_cli.recipe.instruction import InstructionTask
from red_cli.recipe.launch import Launch
from red_cli.recipe.methods import MethodChoice
from red_cli.recipe.metric_names import CLASSIFICATION_METRICS, E2E_METRICS, REGRESSION_METRICS, Metric, TextMetric
from red_cli.recipe.paper import Paper
from red_cli.recipe.roles import LocalPath, Role, Text
from red_cli.recipe.section import Count, CountFromZero, Dropout, NotNegative, Positive, Section, TaskSettings
from red_cli.recipe.text import (
    Decoding,
    E2eTask,
    GenerationTask,
    LabelTexts,
    Template,
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

ALLOW_CODE_KEY = "model.trust_remote_code"
ALLOW_CODE = f"{ALLOW_CODE_KEY}=true"
HOW_TO_ALLOW = f"Read that code; to let it run, add to the command: {ALLOW_CODE}"


class Model(Section):
    """The base that stays frozen."""

    name_or_path: Annotated[str, Role.BASE, LocalPath.OR_HUB_NAME] = Field(
        description="The base: a model folder, or a name on the Hugging Face Hub."
    )
    revision: Annotated[str | None, Role.BASE] = Field(default=None, description="Branch, tag or commit on the Hub.")
    dtype: Annotated[Literal["float32", "bfloat16", "float16", "auto"], Role.BASE] = Field(
        default="float32",
        description="dtype of the frozen base; auto takes the checkpoint's. Vectors are float32 always.",
    )
    quantization: Annotated[Literal["int8", "nf4"] | None, Role.BASE] = Field(
        default=None, description="Load the frozen base in 8 or 4 bits (8bit, 4bit) by bitsandbytes (extra: quant)."
    )
    dropout: Annotated[Dropout | None, Role.BASE] = Field(
        default=None, description="Sets every dropout of the base; the base's own values if absent."
    )
    classifier_dropout: Annotated[Dropout | None, Role.BASE] = Field(
        default=None, description="Dropout of the classification head; the base's own if absent."
    )
    trust_remote_code: Annotated[bool, Role.BASE] = Field(
        default=False,
        description="Run Python code that comes with the model (a recipe in a folder that is opened cannot allow it).",
    )

    @field_validator("quantization", mode="before")
    @classmethod
    def _by_bits(cls, value: Any) -> Any:
        return {"8bit": "int8", "4bit": "nf4"}.get(value, value) if isinstance(value, str) else value


class Train(Section):
    """How the vectors are learnt."""

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


class Eval(Section):
    """How the result is scored."""

    split: Annotated[Literal["standard", "paper"], Role.SPLIT] = Field(
        default="standard",
        description="standard: the validation split chooses the best evaluation, and is scored. paper: the paper's cut "
        "of GLUE, drawn by train.seed: part of the official validation set chooses, the other part is scored.",
    )
    metric: Annotated[Metric | None, Role.METRIC] = Field(
        default=None, description="Chooses the best checkpoint; default: the task's own."
    )
    metrics: Annotated[list[TextMetric] | None, Role.FIGURES] = Field(
        default=None, description="Metrics of generated texts (extra: nlg); default: E2E NLG's five for it, else none."
    )
    batch_size: Annotated[Count | None, Role.INFERENCE_BATCH] = Field(
        default=None, description="Sequences at once; default: twice the training's."
    )
    generation: Annotated[Decoding | None, Role.DECODING] = Field(
        default=None, description="How texts are generated, in tasks that do."
    )


class Output(Section):
    """Where the run goes."""

    dir: str | None = Field(default=None, description="Run folder; default: runs/<recipe>[-<variant>]-seed<seed>.")


class Subject(Section):
    """The keys of a recipe that say what is trained for what."""

    task: Annotated[Task, Role.TASK]
    model: Model


class Recipe(MethodChoice, Subject):  # fields come in the order of the last base first
    """A recipe, resolved: the variant merged in, overrides applied."""

    data: Data = Field(default_factory=Data)
    train: Train = Field(default_factory=Train)
    eval: Eval = Field(default_factory=Eval)
    launch: Annotated[Launch, Role.MACHINE] = Field(default_factory=Launch)
    output: Annotated[Output, Role.OUTPUT] = Field(default_factory=Output)
    paper: Annotated[Paper | None, Role.COSMETIC, Text.MAY_BE_EMPTY] = None

    @model_validator(mode="after")
    def _texts_are_generated_somehow(self) -> Recipe:
        if generates_text(self) and self.eval.generation is None:
            self.eval.generation = Decoding()
        return self


def _complete_or_extending(schema: dict[str, Any]) -> None:
    """What a recipe requires may be in the one that it extends."""
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["extends"]}]


class RecipeFile(Recipe):
    """A recipe as it is written: what it extends, and named variants, each a part of a recipe laid over it."""

    model_config = ConfigDict(json_schema_extra=_complete_or_extending)

    extends: str | None = Field(
        default=None, description="A recipe that this one is laid over: a bundled one's name, or a path from this file."
    )
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
    return REGRESSION_METRICS if is_regression(recipe) else CLASSIFICATION_METRICS


def text_metrics(recipe: Recipe) -> tuple[str, ...]:
    """The metrics of generated texts: those that are named, else the task's own; and the one that chooses."""
    own = E2E_METRICS if isinstance(recipe.task, E2eTask) else ()
    named = own if recipe.eval.metrics is None else recipe.eval.metrics
    chosen = [recipe.eval.metric] if recipe.eval.metric in get_args(TextMetric) else []
    return tuple(dict.fromkeys([*named, *chosen]))
