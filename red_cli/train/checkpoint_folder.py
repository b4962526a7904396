"""Checkpoint folders: list, validate, read and prune them. Imports no torch."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from red_cli.errors import UserError
from red_cli.files import file_sha256, read_json
from red_cli.runs.inputs import RunInputs, parse_inputs

STATE_FILE = "state.json"
OPTIMIZER_FILE = "optimizer.pt"
DAMAGED = "Delete this checkpoint to resume from the previous one."
DIGESTS = "files"  # name -> sha256
INPUTS = "inputs"
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_NAME = re.compile(r"step-(\d+)")


@dataclass
class TrainingState:
    """The progress that a checkpoint folder has; with parameters, optimiser and generators it determines the rest."""

    step: _Count = 0
    evaluated_step: _Count = 0
    best_value: FiniteFloat | None = None
    best_step: _Count = 0
    best_scores: dict[str, FiniteFloat] = field(default_factory=dict)
    evaluations_without_gain: _Count = 0
    untuned_scores: dict[str, FiniteFloat] = field(default_factory=dict)
    untuned_rows: _Count = 0
    seconds: FiniteFloat = 0.0
    rows: _Count = 0
    micro_batch_size: _Count = 0

    def reset_best(self) -> None:
        """Forget the best evaluation; later ones choose it again."""
        self.best_value, self.best_step, self.best_scores, self.evaluations_without_gain = None, 0, {}, 0
        self.evaluated_step = 0


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [
        (int(match[1]), path)
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name)) and (path / STATE_FILE).is_file()
    ]
    return [path for _, path in sorted(found)]


def validation_error(path: Path) -> str | None:
    """The reason why a checkpoint is invalid (a file is missing or changed), or None if it is valid."""
    try:
        digests = read_json(path / STATE_FILE)[DIGESTS]
        read_state(path)
        read_inputs(path)
        for name, digest in digests.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if file_sha256(path / name) != digest:
                return f"{name} has changed"
    except (UserError, KeyError, TypeError, AttributeError):
        return f"{STATE_FILE} is missing or damaged"
    return None


def read_state(path: Path) -> TrainingState:
    """Read the state file of a checkpoint.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        content = dict(read_json(path / STATE_FILE))
        content.pop(DIGESTS, None)
        content.pop(INPUTS, None)
        state = TypeAdapter(TrainingState).validate_python(content)
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise UserError("file-damaged", f"{path / STATE_FILE} is damaged", hint=DAMAGED) from None
        first = error.errors()[0]
        raise UserError(
            "file-damaged", f"{path / STATE_FILE} is damaged: {first['loc']}: {first['msg']}", hint=DAMAGED
        ) from None
    if state.micro_batch_size < 1:
        raise UserError("file-damaged", f"{path / STATE_FILE} is damaged", hint=DAMAGED)
    return state


def read_inputs(path: Path) -> RunInputs | None:
    """Read from the folder of a checkpoint what it was trained on; None for those of version 0.1.

    Raises:
        UserError: the state file is missing or damaged.
    """
    content = read_json(path / STATE_FILE)
    try:
        return parse_inputs(content[INPUTS]) if INPUTS in content else None
    except (TypeError, ValueError):
        raise UserError("file-damaged", f"{path / STATE_FILE} is damaged", hint=DAMAGED) from None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last `keep` checkpoints, and what interrupted deletions left."""
    kept = list_checkpoints(folder)[-keep:]
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and path not in kept:
            shutil.rmtree(path)
