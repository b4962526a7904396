"""Every key of a recipe: its type, default and meaning. Unknown keys are forbidden."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.json_schema import GenerateJsonSchema

from red_cli.recipe.methods import MethodChoice
from red_cli.recipe.metric_names import TEXT_METRICS, Metric, TextMetric
from red_cli.recipe.paper import RED, Paper, red_method
from red_cli.recipe.roles import LocalPath, Role, Text
from red_cli.recipe.sections import Count, Data, Decoding, Dropout, Launch, Section, Train
from red_cli.recipe.tasks.registry import Task

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

    @property
    def max_new_tokens(self) -> int | None:
        """Most tokens of a generated text, where the recipe says."""
        return None if self.generation is None else self.generation.max_new_tokens


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
        if self.task.writes_text and self.eval.generation is None:
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


def text_metrics(recipe: Recipe) -> tuple[str, ...]:
    """The metrics of generated texts: those that are named, else the task's own; and the one that chooses."""
    named = recipe.task.default_text_metrics if recipe.eval.metrics is None else recipe.eval.metrics
    chosen = [recipe.eval.metric] if recipe.eval.metric in TEXT_METRICS else []
    return tuple(dict.fromkeys([*named, *chosen]))


class _PublishedNames(GenerateJsonSchema):
    """Keeps the names that the JSON schema has for the settings of tasks."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).replace("Settings", "Task")


def json_schema() -> dict[str, Any]:
    """The JSON schema of recipe files."""
    return RecipeFile.model_json_schema(schema_generator=_PublishedNames)


def paper_figure(recipe: Recipe) -> dict[str, Any] | None:
    """The paper's figure; None where the recipe has none, or trains another base, task or method than the paper."""
    if recipe.paper is None or paper_mismatch(recipe) is not None:
        return None
    return recipe.paper.model_dump(exclude_none=True)


def paper_mismatch(recipe: Recipe) -> str | None:
    """Why the figures in a recipe are not of what it trains: the first of task, base and method that differs."""
    paper = recipe.paper
    if paper is None:
        return None
    base = PurePath(recipe.model.name_or_path).name
    if paper.task not in (None, recipe.task.title):
        return f"the task is {recipe.task.title}, the paper's is {paper.task}"
    if base != paper.model:
        return f"the base is {base}, the paper's is {paper.model}"
    if not recipe.method_spec.edits or paper.method not in (None, red_method(recipe.red)):
        return f"the edits are not those of the paper's {paper.method or RED}"
    return None
