"""What a search for a learning rate found, and the record it leaves in the run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from red_cli.errors import UserError
from red_cli.files import read_json, write_json
from red_cli.recipe.load import LoadedRecipe
from red_cli.runs.folder import RunFolder
from red_cli.runs.inputs import RunInputs

SEARCH_FILE = "learning_rate_search.json"


@dataclass(frozen=True)
class Sweep:
    """A short run whose learning rate rises at each step.

    Attributes:
        rates, losses: of each step done.
        edge: the rate at which the loss diverged; None where it never did.
    """

    rates: list[float]
    losses: list[float]
    edge: float | None


@dataclass(frozen=True)
class LearningRateSearch:
    """What a search found, and how: the content of learning_rate_search.json.

    Attributes:
        rate: what was chosen.
        steps: optimiser steps that the search took.
        run_steps: those of the run itself.
        inputs: the rows and the base that it was found on; None until it is written, and in records of version 0.1.
    """

    rate: float
    steps: int
    run_steps: int
    sweeps: list[Sweep]
    inputs: RunInputs | None = None

    def summary(self) -> dict[str, Any]:
        """The search without the steps of its sweeps."""
        return {"rate": self.rate, "steps": self.steps, "edges": [sweep.edge for sweep in self.sweeps]}

    def write(self, folder: RunFolder) -> None:
        """Leave a record in the run folder and its log; a resumed run does not search again."""
        if folder.writes:
            inputs = None if self.inputs is None else self.inputs.to_json()
            write_json(folder.path / SEARCH_FILE, {**asdict(self), "inputs": inputs})
        folder.append_log({"step": 0, "epoch": 0.0, "learning_rate_search": self.summary()})


def with_rate(loaded: LoadedRecipe, rate: float) -> LoadedRecipe:
    """The recipe with a learning rate in place of auto."""
    settings = loaded.recipe.train.model_copy(update={"learning_rate": rate})
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"train": settings}))


def found_before(loaded: LoadedRecipe, checkpoint: Path | None) -> LearningRateSearch | None:
    """The record of an earlier search: by this run, or by the one whose checkpoint it resumes from."""
    folders = [loaded.run_folder, *([checkpoint.resolve().parent.parent] if checkpoint is not None else [])]
    return next((read_search(folder) for folder in folders if has_search(folder)), None)


def read_search(folder: Path) -> LearningRateSearch:
    """The record of a search.

    Raises:
        UserError: it is damaged.
    """
    path = folder / SEARCH_FILE
    try:
        return TypeAdapter(LearningRateSearch).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            "file-damaged", f"{path} is damaged: {first['loc']}: {first['msg']}", hint="Delete the run folder."
        ) from None


def has_search(folder: Path) -> bool:
    """Whether a run folder holds the record of a search."""
    return (folder / SEARCH_FILE).is_file()


def as_found(loaded: LoadedRecipe, folder: Path) -> LoadedRecipe:
    """The recipe with the rate that a search for the run in `folder` has found, in place of auto."""
    if loaded.recipe.train.learning_rate != "auto" or not has_search(folder):
        return loaded
    return with_rate(loaded, read_search(folder).rate)
