"""The result of a learning-rate search and its record in the run folder."""

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
    """The record of a short run whose learning rate rises at each step.

    Attributes:
        rates, losses: the learning rate and the training loss of each step.
        edge: the rate at which the loss diverged, or None.
    """

    rates: list[float]
    losses: list[float]
    edge: float | None


@dataclass(frozen=True)
class LearningRateSearch:
    """The content of learning_rate_search.json.

    Attributes:
        rate: the chosen learning rate.
        steps: optimiser steps of the search.
        run_steps: optimiser steps of the run.
        inputs: digests of the rows and the base of the search; None before writing if there were no sweeps, and in
            records of version 0.1.
    """

    rate: float
    steps: int
    run_steps: int
    sweeps: list[Sweep]
    inputs: RunInputs | None = None

    @property
    def unsearched(self) -> str | None:
        """Why the rate may not fit the base, and what to do; None if it was searched."""
        if self.sweeps:
            return None
        why = f"The learning rate {self.rate:g} is the method's usual one, not searched"
        return f"{why}. Try a third of it, and three times it."

    def summary(self) -> dict[str, Any]:
        """The search without the individual steps, for metrics.json and the log."""
        return {"rate": self.rate, "steps": self.steps, "edges": [sweep.edge for sweep in self.sweeps]}

    def write(self, folder: RunFolder) -> None:
        """Record the search in the run folder and its log, so that a resumed run does not repeat it."""
        if folder.writes:
            inputs = None if self.inputs is None else self.inputs.to_json()
            write_json(folder.path / SEARCH_FILE, {**asdict(self), "inputs": inputs})
        folder.append_log({"step": 0, "epoch": 0.0, "learning_rate_search": self.summary()})


def with_rate(loaded: LoadedRecipe, rate: float) -> LoadedRecipe:
    """The recipe with the learning rate of the record."""
    settings = loaded.recipe.train.model_copy(update={"learning_rate": rate})
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"train": settings}))


def find_earlier_search(loaded: LoadedRecipe, checkpoint: Path | None) -> LearningRateSearch | None:
    """Read the search of this run, or of the run whose checkpoint it resumes from; None if there is no record."""
    folders = [loaded.run_folder, *([checkpoint.resolve().parent.parent] if checkpoint is not None else [])]
    return next((read_search(folder) for folder in folders if has_search(folder)), None)


def read_search(folder: Path) -> LearningRateSearch:
    """Read the record of a search.

    Raises:
        UserError: the file is damaged.
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


def with_searched_rate(loaded: LoadedRecipe, folder: Path) -> LoadedRecipe:
    """The recipe, with `auto` replaced by the recorded learning rate of the run in `folder` if there is one."""
    if loaded.recipe.train.learning_rate != "auto" or not has_search(folder):
        return loaded
    return with_rate(loaded, read_search(folder).rate)
