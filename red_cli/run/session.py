"""Everything a training run works with, set up from a recipe or taken up at a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from red_cli.methods.table import attach_method
from red_cli.methods.trained import Trained
from red_cli.recipe.load import Loaded
from red_cli.recipe.schema import Recipe, Train
from red_cli.run.base_model import load_base, to_device
from red_cli.run.base_record import BaseRecord, record_base
from red_cli.run.batches import Order, cut, cut_by_length
from red_cli.run.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from red_cli.run.events import Listener
from red_cli.run.folder import RunFolder
from red_cli.run.memory import find_micro_batch_size
from red_cli.run.optimizer import build_optimizer, build_scheduler, total_steps
from red_cli.run.plan import Plan, Prepared, training_order
from red_cli.run.precision import uses_bf16
from red_cli.run.search_record import SEARCH_FILE, LearningRateSearch, has_search
from red_cli.tasks.base import Batch
from red_cli.tasks.generation import CompletionTask
from red_cli.tasks.packing import pack

# What one more micro-batch costs, in tokens: little on a CPU, on a GPU the launching of some hundred kernels.
_CUT_COST = {"cpu": 64, "cuda": 16384}


@dataclass
class Session:
    """Everything a training run works with."""

    loaded: Loaded
    folder: RunFolder
    prepared: Prepared
    listener: Listener
    accelerator: Accelerator
    trained: Trained  # the model itself with the method on it, for saving
    wrapped: nn.Module  # the model as Accelerate prepared it, for running
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    order: Order
    total: int
    state: TrainingState
    base_record: BaseRecord = field(default_factory=lambda: BaseRecord(None, None))

    @property
    def model(self) -> PreTrainedModel:
        """The model itself, for scoring."""
        return self.trained.model

    @property
    def recipe(self) -> Recipe:
        return self.loaded.recipe

    @property
    def settings(self) -> Train:
        return self.loaded.recipe.train

    def batches(self, rows: NDArray[np.int64]) -> list[Batch]:
        """A step's rows as batches that go through the model."""
        task, encoded = self.prepared.task, self.prepared.encoded["train"]
        if not self.settings.packing:
            return [task.collate(encoded, piece) for piece in self.micro_batches(rows)]
        assert isinstance(task, CompletionTask)
        packs, size = pack(rows, encoded.lengths), self.state.micro_batch_size
        return [task.collate_packed(encoded, packs[start : start + size]) for start in range(0, len(packs), size)]

    def micro_batches(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """A step's rows as they go through the model together."""
        size = self.state.micro_batch_size
        if not self.settings.group_by_length:
            return cut(rows, size)
        cost = _CUT_COST.get(self.accelerator.device.type, _CUT_COST["cuda"])
        return cut_by_length(rows, self.prepared.encoded["train"].lengths, size, cost)


def set_up(loaded: Loaded, prepared: Prepared, plan: Plan, checkpoint: Path | None, listener: Listener) -> Session:
    """Base, method, head, optimiser and schedule, as they are before the first step or at `checkpoint`.

    Nothing is written yet; the learning rate is a number.
    """
    recipe, folder = loaded.recipe, RunFolder(loaded.run_folder)
    settings = recipe.train
    listener.working("loading the base")
    model, head = load_base(recipe.model, prepared.config, prepared.task.kind, settings.seed)
    trained = attach_method(model, recipe, head)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    accelerator = Accelerator(
        mixed_precision="bf16" if uses_bf16(settings) else "no",
        log_with=settings.report_to or None,
        project_dir=folder.path,
    )
    to_device(model, accelerator.device)
    order = training_order(recipe, prepared)
    total = total_steps(settings, order.steps_per_epoch)
    optimizer = build_optimizer(trained, settings)
    scheduler = build_scheduler(optimizer, settings, total)
    wrapped, prepared_optimizer = accelerator.prepare(model, optimizer)
    session = Session(
        loaded, folder, prepared, listener, accelerator, trained, wrapped, prepared_optimizer, scheduler, order, total,
        TrainingState(), record_base(recipe.model, trained.modules if recipe.method == "red" else []),
    )  # fmt: skip
    torch.manual_seed(settings.seed)
    if checkpoint is not None:
        session.state = load_checkpoint(checkpoint, trained, recipe, optimizer, scheduler)
        if checkpoint.resolve().parent != folder.checkpoints.resolve():
            session.state.forget_best()  # its adapter lies in another run's folder
        listener.note(f"Going on from step {session.state.step} of {total} ({checkpoint}).")
    else:
        session.state.micro_batch_size = settings.micro_batch_size or _find_micro_batch_size(session, plan)
    return session


def begin(session: Session, search: LearningRateSearch | None) -> None:
    """Write what a run folder holds from the start; `search` is where the learning rate comes from, if it was found."""
    recipe, folder, settings = session.recipe, session.folder, session.settings
    folder.trim_log(session.state.step)
    resolved = settings.model_copy(
        update={"micro_batch_size": session.state.micro_batch_size, "resume_from_checkpoint": False}
    )
    output = recipe.output.model_copy(update={"dir": str(folder.path.resolve())})
    recipe = recipe.model_copy(update={"train": resolved, "output": output})
    if search is not None and not has_search(folder.path):
        # Ended between these lines, the run can still be gone on with.
        folder.write_start(recipe.model_copy(update={"train": resolved.model_copy(update={"learning_rate": "auto"})}))
        search.write(folder)
    folder.write_start(recipe, note=f"train.learning_rate: found by a search, {SEARCH_FILE}" if search else None)
    if settings.report_to:
        session.accelerator.init_trackers("red", config=_flat_settings(session.recipe))


def backward(session: Session, batch: Batch, weight: int) -> torch.Tensor:
    """Add the gradients of the batch's share of a step with `weight` labelled items; returns that share of the loss."""
    loss = session.prepared.task.loss(session.wrapped, batch) / weight
    session.accelerator.backward(loss)
    return loss.detach()


def save(session: Session) -> Path:
    """Write a checkpoint of the present state."""
    return save_checkpoint(
        session.folder.checkpoints, session.trained, session.recipe, session.optimizer, session.scheduler,
        session.state, keep=session.settings.save_total_limit,
    )  # fmt: skip


def _find_micro_batch_size(session: Session, plan: Plan) -> int:
    """Try a training step over the longest rows, in ever smaller cuts, without leaving a trace."""
    encoded = session.prepared.encoded["train"]
    longest = (-encoded.lengths).argsort(kind="stable")

    def try_step(size: int) -> None:
        batch = session.prepared.task.collate(encoded, longest[:size]).to(session.accelerator.device)
        with torch.random.fork_rng():
            backward(session, batch, batch.weight)
        session.optimizer.zero_grad()

    def estimate(size: int) -> int:
        return 0 if plan.memory is None else plan.memory.of_rows(size)

    session.wrapped.train()
    most = min(session.settings.batch_size, len(encoded))
    return find_micro_batch_size(try_step, most, estimate)


def _flat_settings(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.train.model_dump().items() if isinstance(value, int | float | str)}
