"""The content of metrics.json: what a finished run holds, and what an evaluation alone leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from red_cli.errors import UserError
from red_cli.files import read_json
from red_cli.recipe.methods import MethodName
from red_cli.recipe.paper import Paper
from red_cli.runs.inputs import parse_inputs

_Count = Annotated[int, Field(ge=0)]
_FINISHED = "training"  # the key that only a finished run has


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
    steps: Annotated[int, Field(gt=0)]
    seconds: float
    examples_per_second: float
    peak_memory_bytes: _Count
    device: str
    seed: _Count


class _Evaluated(_Part):
    """What `red eval` leaves where no run has ended."""

    metric: str | None = None
    splits: dict[str, _Split] = Field(default_factory=dict)
    suites: dict[str, dict[str, Any]] = Field(default_factory=dict)


class _Finished(_Evaluated):
    """What a finished run leaves. Runs of version 0.1 have no method, scoring and learning_rate."""

    task: str
    base: str
    method: MethodName = "red"
    metric: str
    best: _Best
    scoring: _Scoring | None = None
    splits: dict[str, _Split]
    paper: Paper | None = None
    parameters: _Parameters
    learning_rate: float | None = None
    learning_rate_search: _Search | None = None
    training: _Training
    inputs: Any = None

    @field_validator("inputs")
    @classmethod
    def _inputs_are_readable(cls, inputs: Any) -> Any:
        return None if inputs is None else parse_inputs(inputs)

    @model_validator(mode="after")
    def _the_result_is_there(self) -> _Finished:
        chosen = [self.scoring.selection.split, self.scoring.scored.split] if self.scoring is not None else []
        for split in chosen:
            if self.metric not in (self.splits[split].model_extra or {} if split in self.splits else {}):
                raise ValueError(f"splits has no {self.metric} of {split}")
        return self


def read_metrics_file(path: Path) -> dict[str, Any]:
    """The content of a metrics.json, as it is written, once every key has the type it should have.

    Raises:
        UserError: it is not JSON, or a key is missing or has another type; the first one is named.
    """
    content = read_json(path)
    form = _Finished if isinstance(content, dict) and _FINISHED in content else _Evaluated
    try:
        form.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(
            "file-damaged",
            f"{path} is damaged: {f'key {key!r}: ' if key else ''}{first['msg']}",
            hint="Copy it again. Or delete it: the run's adapter can still be scored and exported.",
        ) from None
    assert isinstance(content, dict)
    return content


def is_finished(metrics: dict[str, Any]) -> bool:
    """Whether this is the content of a finished run's metrics.json."""
    return _FINISHED in metrics
