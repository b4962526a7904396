"""The schema of recipes: every key with its type, default, meaning and role. Unknown keys are forbidden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from red_cli.recipe.methods import MethodChoice
from red_cli.recipe.paper import Paper
from red_cli.recipe.roles import FIRST_VERSION, V0_2, LocalPath, Role, Since, Text
from red_cli.recipe.sections import Data, Decoding, Dtype, Eval, Launch, Model, Output, Section
from red_cli.recipe.tasks.registry import Task
from red_cli.recipe.train_section import Train

ALLOW_CODE_KEY = "model.trust_remote_code"
ALLOW_CODE = f"{ALLOW_CODE_KEY}=true"
HOW_TO_ALLOW = f"Read the code. To run it, add this to the command: {ALLOW_CODE}"
_Marker = TypeVar("_Marker", Role, LocalPath, Text, Since)


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


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Every key of the schema with its value in a recipe, as plain data; None stays out where it is the default."""
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


class _PublishedNames(GenerateJsonSchema):
    """Names the settings of tasks `…Task` in the JSON schema."""

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).replace("Settings", "Task")


def json_schema() -> dict[str, Any]:
    """The JSON schema of recipe files."""
    return RecipeFile.model_json_schema(schema_generator=_PublishedNames)


@dataclass(frozen=True)
class Key:
    """A key of the schema.

    Attributes:
        path: dotted, such as train.seed.
        role: of the key or of its section; None for a section whose keys have different roles.
        is_section: whether it contains keys.
        may_be_empty: whether the key, or its section, may have an empty text as value.
        since: the version of red that introduced it, such as 0.2.
    """

    path: str
    role: Role | None
    local_path: LocalPath | None
    is_section: bool
    may_be_empty: bool
    since: str


def keys_of(model: type[BaseModel], parent: Key | None = None) -> Iterator[Key]:
    """Yield the keys of a section of the schema, sections before their keys; a key of two branches comes twice."""
    for name, field in model.model_fields.items():
        sections = _sections(field)
        key = Key(
            path=name if parent is None else f"{parent.path}.{name}",
            role=_marker(field, Role) or (parent.role if parent else None),
            local_path=_marker(field, LocalPath),
            is_section=bool(sections),
            may_be_empty=_marker(field, Text) is not None or (parent is not None and parent.may_be_empty),
            since=_since(model, field, parent),
        )
        yield key
        for section in sections:
            yield from keys_of(section, key)


def _since(model: type[BaseModel], field: FieldInfo, parent: Key | None) -> str:
    """The version that introduced a key of the schema: by its own mark, or that of the sections around it."""
    own = _marker(field, Since) or getattr(model, "since", None)
    if own is not None:
        return own.version
    return FIRST_VERSION.version if parent is None else parent.since


def _marker(field: FieldInfo, kind: type[_Marker]) -> _Marker | None:
    """The marker of this kind that the walk of the schema finds at a key, such as its role; None if none."""
    return next((marker for marker in field.metadata if isinstance(marker, kind)), None)


def _sections(field: FieldInfo) -> list[type[BaseModel]]:
    """The sections that a field of the schema can hold: the models in its annotation."""
    candidates = (field.annotation, *get_args(field.annotation))
    return [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]


@cache
def recipe_keys() -> dict[str, Key]:
    """Dotted path -> key, for every key of the schema."""
    keys: dict[str, Key] = {}
    for key in keys_of(Recipe):
        keys.setdefault(key.path, key)
    return keys


def key_paths() -> list[str]:
    """Every key of the schema as a dotted path."""
    return list(recipe_keys())


def key_at(path: str) -> Key | None:
    """The key of the schema at a dotted path, or the innermost one around it; None if there is neither."""
    while path and path not in recipe_keys():
        path = path.rpartition(".")[0]
    return recipe_keys().get(path)


def with_dtype(recipe: Recipe, name: Dtype) -> Recipe:
    """The recipe with another dtype of the base."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": name})})
