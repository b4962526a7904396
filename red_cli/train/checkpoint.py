"""Save the state of a training run, and restore it."""

from __future__ import annotations

import io
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from red_cli.errors import UserError
from red_cli.files import file_sha256, replacing_folder, write_bytes, write_json
from red_cli.methods.attach_save_load import save_trained
from red_cli.train.checkpoint_folder import (
    DAMAGED,
    DIGESTS,
    INPUTS,
    OPTIMIZER_FILE,
    STATE_FILE,
    prune,
    read_state,
    validation_error,
)
from red_cli.train.generators import generator_states, restore_generators
from red_cli.train.session import Session


def save_checkpoint(session: Session) -> Path:
    """Save a checkpoint of the run, then delete all but the last `train.save_total_limit`.

    Trainable parameters and optimiser state are saved unsharded, so that the run can resume under another strategy or
    with another number of processes. The base is not saved. All ranks call it; rank 0 writes.
    """
    processes, folder = session.processes, session.folder.checkpoints
    path = folder / f"step-{session.state.step}"
    if not processes.broadcast(processes.main and validation_error(path) is None):
        training = {
            "optimizer": session.engine.optimizer_state(),
            "scheduler": session.optimisation.scheduler.state_dict(),
            "generators": processes.gather(generator_states(processes.device)),
        }
        with session.engine.gathered_parameters():
            if processes.main:
                _write(session, path, training)
    if processes.main:
        prune(folder, session.settings.save_total_limit)
    processes.barrier()  # a rank that exits earlier would end the others while rank 0 writes
    return path


def _write(session: Session, path: Path, training: dict[str, Any]) -> None:
    """Write a checkpoint folder: trained parameters, optimizer, digests and the state of the run."""
    if path.exists():  # damaged or partly deleted
        shutil.rmtree(path)
    recipe = session.recipe
    with replacing_folder(path) as temporary:
        save_trained(session.trained, recipe, temporary, recipe.model.revision, None)
        content = io.BytesIO()
        torch.save(training, content)
        write_bytes(temporary / OPTIMIZER_FILE, content.getvalue())
        digests = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
        state = {**asdict(session.state), INPUTS: session.inputs.to_json(), DIGESTS: digests}
        write_json(temporary / STATE_FILE, state)


def load_checkpoint(session: Session, path: Path) -> None:
    """Restore state, optimiser, scheduler and random generators; the trainable parameters must be loaded already.

    A rank that did not exist when the checkpoint was saved keeps the generators of a new run.

    Raises:
        UserError: the checkpoint is incomplete or damaged, or belongs to another model.
    """
    session.state = read_state(path)
    try:
        stored = torch.load(path / OPTIMIZER_FILE, weights_only=True, map_location="cpu")
        session.engine.load_optimizer_state(stored["optimizer"])
        session.optimisation.scheduler.load_state_dict(stored["scheduler"])
        if session.processes.index < len(stored["generators"]):
            restore_generators(stored["generators"][session.processes.index], session.processes.device)
    except Exception as error:  # torch raises many kinds of errors for a damaged file
        raise UserError(
            "file-damaged", f"{path / OPTIMIZER_FILE} is damaged or belongs to another model", hint=DAMAGED
        ) from error
