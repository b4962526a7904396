"""The schema of metrics.json: of a finished run, and of an evaluation without one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from red_cli.errors import UserError
from red_cli.files import read_json
from red_cli.recipe.methods import MethodName
from red_cli.recipe.metrics import UNTUNED, Untuned
from red_cli.recipe.paper import Paper
from red_cli.runs.inputs import parse_inputs

_Count = Annotated[int, Field(ge=0)]
_FINISHED = "training"  # the key that only a finished run has
_BY_SPLIT = {"splits", "classes", "confusion", "majority", "errors", "mistakes"}


class _Part(BaseModel):
    """A part of metrics.json. Keys of later versions are allowed."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())


class _Split(_Part):
    """The scores of a split: `examples`, and a number for each metric."""

    __pydantic_extra__: dict[str, float] = Field(init=False)

    examples: _Count


class _Best(_Part):
    value: float
    step: _Count
    epoch: float


class _RowsUsed(_Part):
    split: str
    examples: _Count
    rows: str


class _Scoring(_Part):
    split: str
    selection: _RowsUsed
    scored: _RowsUsed


class _Parameters(_Part):
    edited: _Count
    head: _Count
    base: _Count
    share: float


class _Search(_Part):
    rate: float
    steps: _Count
    edges: list[float | None]


class _Training(_Part):
    steps: _Count  # 0: an untuned base
    seconds: float
    examples_per_second: float
    peak_memory_bytes: _Count
    device: str
    seed: _Count


class _Untuned(_Part):
    """The score before training: `split`, `examples`, and a number for each metric."""

    __pydantic_extra__: dict[str, float] = Field(init=False)

    split: str
    examples: _Count


class _Class(_Part):
    """The scores of a class, as fractions."""

    label: str
    rows: _Count
    predicted: _Count
    precision: float
    recall: float
    f1: float


class _Mistake(_Part):
    row: _Count
    text: str
    label: str
    prediction: str


class _Error(_Mistake):
    probability: float


class _Note(_Part):
    code: str
    text: str
    split: str | None = None


class _Evaluated(_Part):
    """The metrics.json of an evaluation without a finished run."""

    metric: str | None = None
    metric_names: dict[str, str] = Field(default_factory=dict)
    splits: dict[str, _Split] = Field(default_factory=dict)
    classes: dict[str, list[_Class]] = Field(default_factory=dict)
    confusion: dict[str, list[list[_Count]]] = Field(default_factory=dict)
    majority: dict[str, dict[str, Any]] = Field(default_factory=dict)
    errors: dict[str, list[_Error]] = Field(default_factory=dict)
    mistakes: dict[str, list[_Mistake]] = Field(default_factory=dict)
    notes: list[_Note] = Field(default_factory=list)
    suites: dict[str, dict[str, Any]] = Field(default_factory=dict)


class _Finished(_Evaluated):
    """The metrics.json of a finished run. Runs of version 0.1 have no method, scoring and learning_rate."""

    task: str
    base: str
    method: MethodName | Untuned = "red"
    metric: str
    best: _Best
    scoring: _Scoring | None = None
    untuned: _Untuned | None = None
    splits: dict[str, _Split]
    paper: Paper | None = None
    parameters: _Parameters
    learning_rate: float | None = None
    relative_rates: bool = False
    learning_rate_search: _Search | None = None
    training: _Training
    inputs: Any = None

    @field_validator("inputs")
    @classmethod
    def _inputs_are_readable(cls, inputs: Any) -> Any:
        return None if inputs is None else parse_inputs(inputs)

    @model_validator(mode="after")
    def _something_was_trained(self) -> _Finished:
        if self.training.steps == 0 and self.method != UNTUNED:
            raise ValueError("training.steps is 0")
        return self

    @model_validator(mode="after")
    def _the_result_is_there(self) -> _Finished:
        chosen = [self.scoring.selection.split, self.scoring.scored.split] if self.scoring is not None else []
        for split in chosen:
            if self.metric not in (self.splits[split].model_extra or {} if split in self.splits else {}):
                raise ValueError(f"splits has no {self.metric} of {split}")
        return self


def read_metrics_file(path: Path) -> dict[str, Any]:
    """Read and validate a metrics.json; returns its content unchanged.

    Raises:
        UserError: the file is not JSON, or a key is missing or of another type; the message names the first.
    """
    content = read_json(path)
    form = _Finished if isinstance(content, dict) and is_finished(content) else _Evaluated
    try:
        form.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(
            "file-damaged",
            f"{path} is damaged: {f'key {key!r}: ' if key else ''}{first['msg']}",
            hint="Copy it again, or delete it: the run's adapter can still be evaluated and exported.",
        ) from None
    assert isinstance(content, dict)
    return content


def merged_metrics(metrics: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The content of a metrics.json with `changes`: these splits are replaced in every part, and so are their notes."""
    merged = {**metrics, "splits": {}, **changes}
    scored = changes.get("splits", {})
    for name in _BY_SPLIT & merged.keys():
        kept = {split: part for split, part in metrics.get(name, {}).items() if split not in scored}
        merged[name] = {**kept, **changes.get(name, {})}
    if "notes" in changes:
        replaced = {*scored, *([None] if is_finished(changes) else [])}
        notes = [note for note in metrics.get("notes", []) if note.get("split") not in replaced]
        merged["notes"] = [*changes["notes"], *notes]
    return merged


def is_finished(metrics: dict[str, Any]) -> bool:
    """Whether the content of a metrics.json is of a finished run."""
    return _FINISHED in metrics
