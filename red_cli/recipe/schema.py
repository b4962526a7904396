"""The schema of recipes: type, default and meaning of every key. Unknown keys are forbidden."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import GenerateJsonSchema

from red_cli.recipe.methods import MethodChoice
from red_cli.recipe.metrics import TEXT_METRICS, Metric
from red_cli.recipe.paper import Paper
from red_cli.recipe.roles import V0_2, Role, Text
from red_cli.recipe.sections import Data, Decoding, Eval, Launch, Model, Output, Section
from red_cli.recipe.tasks.registry import Task
from red_cli.recipe.train_section import Train

ALLOW_CODE_KEY = "model.trust_remote_code"
ALLOW_CODE = f"{ALLOW_CODE_KEY}=true"
HOW_TO_ALLOW = f"Read the code. To run it, add this to the command: {ALLOW_CODE}"


class TaskAndModel(Section):
    """The first keys of a recipe: the task and the base model."""

    task: Annotated[Task, Role.TASK] = Field(description="The task by its name, with the keys of its own.")
    model: Model = Field(description="The base model.")


class Recipe(MethodChoice, TaskAndModel):  # fields of the last base class come first
    """A resolved recipe: the variant is merged in, and overrides are applied."""

    data: Data = Field(default_factory=Data)
    train: Train = Field(default_factory=Train)
    eval: Eval = Field(default_factory=Eval)
    launch: Annotated[Launch, Role.MACHINE, V0_2] = Field(default_factory=Launch)
    output: Annotated[Output, Role.OUTPUT] = Field(default_factory=Output)
    paper: Annotated[Paper | None, Role.COSMETIC, Text.MAY_BE_EMPTY] = None

    @model_validator(mode="after")
    def _texts_are_generated_somehow(self) -> Recipe:
        if self.task.writes_text and self.eval.generation is None:
            self.eval.generation = Decoding()
        return self

    @model_validator(mode="after")
    def _rates_that_are_known(self) -> Recipe:
        method, known = self.method_spec, dict[str, Any]()
        if method.relative_rate is None:
            known["rates"] = "absolute"
        if self.train.learning_rate == "auto" and self.relative_rates:
            known["learning_rate"] = method.relative_rate
        elif self.train.learning_rate == "auto" and method.only_head and self.train.head_learning_rate is not None:
            known["learning_rate"] = self.train.head_learning_rate
        self.train = self.train.model_copy(update=known)
        return self

    @property
    def relative_rates(self) -> bool:
        """Whether the learning rate of a bias is relative to the spread of its module's output."""
        return self.train.rates == "relative" and self.method_spec.relative_rate is not None

    @property
    def paper_mismatch(self) -> str | None:
        """Why the paper's figures do not apply; None if they do, or there are none."""
        if self.paper is None:
            return None
        return self.paper.mismatch(
            self.task.title, self.model.name_or_path, self.red if self.method_spec.edits else None
        )

    @property
    def paper_figure(self) -> dict[str, Any] | None:
        """The paper's figures as plain data; None if there are none, or they do not apply."""
        if self.paper is None or self.paper_mismatch is not None:
            return None
        return self.paper.model_dump(exclude_none=True)


def _complete_or_extending(schema: dict[str, Any]) -> None:
    """In the JSON schema of recipe files, make keys required only if the file has no `extends`."""
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["extends"]}]


class RecipeFile(Recipe):
    """A recipe file: it can extend another recipe, and have named variants, each with keys to change."""

    model_config = ConfigDict(json_schema_extra=_complete_or_extending)

    extends: str | None = Field(
        default=None, description="A recipe to extend: the name of a bundled one, or a path relative to this file."
    )
    variants: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict, description="Named changes to the recipe, selected with --variant."
    )


def with_metric(recipe: Recipe, metric: Metric) -> Recipe:
    """The recipe with another value of eval.metric in its schema."""
    return recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"metric": metric})})


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data by its schema: every key whose value or default is not None."""
    return _without_absent(recipe)


def _without_absent(section: BaseModel) -> dict[str, Any]:
    """A section's data by its schema, without keys whose value and default are both None."""
    data: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            data[name] = _without_absent(value)
        elif value is not None or field.default is not None:
            data[name] = value
    return data


def text_metrics(recipe: Recipe) -> tuple[str, ...]:
    """The values of the schema's keys eval.metrics (default: the task's) and eval.metric that score texts."""
    named = recipe.task.default_text_metrics if recipe.eval.metrics is None else recipe.eval.metrics
    return tuple(dict.fromkeys(name for name in (*named, recipe.eval.metric) if name in TEXT_METRICS))


def loss_metrics(recipe: Recipe) -> tuple[str, ...]:
    """The metrics of the loss that the schema's key eval.metrics asks for: none if it lists others alone."""
    named = recipe.eval.metrics
    return () if named and "loss" not in named else ("loss", "perplexity")


class _PublishedNames(GenerateJsonSchema):
    """Names the settings of tasks `…Task` in the JSON schema."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).replace("Settings", "Task")


def json_schema() -> dict[str, Any]:
    """The JSON schema of recipe files."""
    return RecipeFile.model_json_schema(schema_generator=_PublishedNames)
