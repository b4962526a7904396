"""Save a run's whole state, and take it up again."""

from __future__ import annotations

import hashlib
import io
import random
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from torch.optim.lr_scheduler import LRScheduler

from red_cli.distributed.engine import Engine
from red_cli.distributed.processes import Processes
from red_cli.errors import UserError
from red_cli.files import read_json, replacing_folder, write_bytes, write_json
from red_cli.methods.table import save_trained
from red_cli.methods.trained import Trained
from red_cli.recipe.schema import Recipe
from red_cli.runs.inputs import RunInputs, parse_inputs

STATE_FILE = "state.json"
_OPTIMIZER_FILE = "optimizer.pt"
_DAMAGED = "Delete this checkpoint to go on from the one before it."
_DIGESTS = "files"  # name -> sha256
_INPUTS = "inputs"
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_NAME = re.compile(r"step-(\d+)")


@dataclass
class TrainingState:
    """Where a run stands; together with vectors, optimiser and generators it is all that decides what follows."""

    step: _Count = 0
    evaluated_step: _Count = 0
    best_value: FiniteFloat | None = None
    best_step: _Count = 0
    best_scores: dict[str, FiniteFloat] = field(default_factory=dict)
    evaluations_without_gain: _Count = 0
    seconds: FiniteFloat = 0.0
    rows: _Count = 0
    micro_batch_size: _Count = 0

    def forget_best(self) -> None:
        """Choose the best anew among the evaluations to come."""
        self.best_value, self.best_step, self.best_scores, self.evaluations_without_gain = None, 0, {}, 0
        self.evaluated_step = 0


def save_checkpoint(
    folder: Path,
    trained: Trained,
    recipe: Recipe,
    engine: Engine,
    scheduler: LRScheduler,
    state: TrainingState,
    inputs: RunInputs,
    processes: Processes,
    keep: int,
) -> Path:
    """Write `folder/step-N` whole, then delete all but the last `keep` checkpoints.

    What trains and the optimiser's state are written whole, so that a run can go on with another strategy or another
    number of processes; of the base nothing is. Called by all processes; the main one writes.
    """
    path = folder / f"step-{state.step}"
    if not processes.share(processes.main and damage(path) is None):
        training = {
            "optimizer": engine.optimizer_state(),
            "scheduler": scheduler.state_dict(),
            "generators": processes.gather(_generators()),
        }
        with engine.whole():
            if processes.main:
                _write(path, trained, recipe, training, state, inputs)
    if processes.main:
        prune(folder, keep)
    processes.wait()  # none may end, and have the others ended, while the main one writes
    return path


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last `keep` checkpoints, and what is left of one whose deletion was interrupted."""
    kept = list_checkpoints(folder)[-keep:]
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and path not in kept:
            shutil.rmtree(path)


def _write(
    path: Path, trained: Trained, recipe: Recipe, training: dict[str, Any], state: TrainingState, inputs: RunInputs
) -> None:
    if path.exists():  # damaged, or deleted by half
        shutil.rmtree(path)
    with replacing_folder(path) as temporary:
        save_trained(trained, recipe, temporary, recipe.model.revision, None)
        content = io.BytesIO()
        torch.save(training, content)
        write_bytes(temporary / _OPTIMIZER_FILE, content.getvalue())
        digests = {file.name: _digest(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / STATE_FILE, {**asdict(state), _INPUTS: inputs.to_json(), _DIGESTS: digests})


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint: a file that is missing or not what was written; None: nothing."""
    try:
        digests = read_json(path / STATE_FILE)[_DIGESTS]
        read_state(path)
        read_inputs(path)
        for name, digest in digests.items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if _digest(path / name) != digest:
                return f"{name} is not what was written"
    except (UserError, KeyError, TypeError, AttributeError):
        return f"{STATE_FILE} is missing or damaged"
    return None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


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


def read_state(path: Path) -> TrainingState:
    """The state file of a checkpoint.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        content = dict(read_json(path / STATE_FILE))
        content.pop(_DIGESTS, None)
        content.pop(_INPUTS, None)
        state = TypeAdapter(TrainingState).validate_python(content)
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise UserError(f"{path / STATE_FILE} is damaged", hint=_DAMAGED) from None
        first = error.errors()[0]
        raise UserError(f"{path / STATE_FILE} is damaged: {first['loc']}: {first['msg']}", hint=_DAMAGED) from None
    if state.micro_batch_size < 1:
        raise UserError(f"{path / STATE_FILE} is damaged", hint=_DAMAGED)
    return state


def read_inputs(path: Path) -> RunInputs | None:
    """The inputs that a checkpoint was trained on; None in checkpoints of version 0.1.

    Raises:
        UserError: the state file is missing or damaged.
    """
    content = read_json(path / STATE_FILE)
    try:
        return parse_inputs(content[_INPUTS]) if _INPUTS in content else None
    except (TypeError, ValueError):
        raise UserError(f"{path / STATE_FILE} is damaged", hint=_DAMAGED) from None


def load_checkpoint(path: Path, engine: Engine, scheduler: LRScheduler, processes: Processes) -> TrainingState:
    """Put optimiser, schedule and this process's generators back to where they were; what trains is loaded already.

    A process that there was none of starts its generators by the seed, as at the beginning of a run.

    Raises:
        UserError: the checkpoint is incomplete, damaged, or another model's.
    """
    state = read_state(path)
    try:
        stored = torch.load(path / _OPTIMIZER_FILE, weights_only=True, map_location="cpu")
        engine.load_optimizer_state(stored["optimizer"])
        scheduler.load_state_dict(stored["scheduler"])
        if processes.index < len(stored["generators"]):
            _restore_generators(stored["generators"][processes.index])
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise UserError(f"{path / _OPTIMIZER_FILE} is damaged, or of another model", hint=_DAMAGED) from error
    return state


def _generators() -> dict[str, Any]:
    algorithm, keys, position, *gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": random.getstate(),
        "numpy": [algorithm, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, *gauss],
    }


def _restore_generators(stored: dict[str, Any]) -> None:
    torch.set_rng_state(stored["torch"])
    if stored["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(stored["cuda"])
    version, internal, gauss = stored["python"]
    random.setstate((version, tuple(internal), gauss))
    algorithm, keys, *rest = stored["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
