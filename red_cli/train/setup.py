"""Everything a training run works with, set up from a recipe or taken up at a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from red_cli.base_model.load import load_base, to_device, uses_bf16
from red_cli.base_model.record import BaseRecord, record_base
from red_cli.distributed.deepspeed import Zero, deepspeed_config
from red_cli.distributed.engine import Engine, Replicated, shard_base
from red_cli.distributed.processes import Processes
from red_cli.edit.model import Counts
from red_cli.methods.table import attach_method, load_trained_weights
from red_cli.methods.trained import Trained
from red_cli.plan.batches import MicroBatch, Order, Rows, cut, cut_by_length, deal
from red_cli.plan.memory import estimated_micro_batch_size, find_micro_batch_size
from red_cli.plan.plan import Plan, Prepared, training_order
from red_cli.plan.steps import total_steps
from red_cli.plan.strategy import Choice, device_memory
from red_cli.recipe.load import Loaded
from red_cli.recipe.schema import Recipe, Train
from red_cli.runs.events import Listener
from red_cli.runs.folder import RunFolder
from red_cli.runs.inputs import RunInputs, require_same_inputs
from red_cli.tasks.base import Batch
from red_cli.tasks.text.generation import CompletionTask
from red_cli.tasks.text.packing import pack
from red_cli.train.checkpoint import TrainingState, load_checkpoint, read_inputs, save_checkpoint
from red_cli.train.learning_rate_record import SEARCH_FILE, LearningRateSearch, has_search
from red_cli.train.lock import FolderLock
from red_cli.train.optimizer import build_optimizer, build_scheduler
from red_cli.train.trackers import Trackers

# What one more micro-batch costs, in tokens: little on a CPU, on a GPU the launching of some hundred kernels.
CUT_COST = {"cpu": 64, "cuda": 16384}
_FILLERS = 16  # rows tried for each sequence of the largest packed micro-batch
_NEXT_PROCESS = 0x9E3779B1  # between the seeds of two processes: no other run's seed is near


@dataclass
class Session:
    """Everything a training run works with."""

    loaded: Loaded
    folder: RunFolder
    prepared: Prepared
    plan: Plan
    listener: Listener
    processes: Processes
    accelerator: Accelerator
    trained: Trained  # the model itself with the method on it, for saving
    counts: Counts  # before the base was spread
    optimizer: torch.optim.Optimizer
    engine: Engine
    scheduler: LRScheduler
    order: Order
    total: int
    state: TrainingState
    inputs: RunInputs
    base_record: BaseRecord
    trackers: Trackers
    lock: FolderLock | None = None  # of the run folder; None while a learning rate is searched

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

    def micro_batches(self, rows: Rows) -> list[MicroBatch]:
        """This process's part of a step's rows, in micro-batches of at most `state.micro_batch_size` sequences."""
        size, lengths = self.state.micro_batch_size, self.prepared.encoded["train"].lengths
        cost = CUT_COST.get(self.processes.device.type, CUT_COST["cuda"])

        def cut_up(part: Rows) -> list[MicroBatch]:
            if self.settings.packing:
                packs = pack(part, lengths)
                return [MicroBatch.of_packs(packs[start : start + size]) for start in range(0, len(packs), size)]
            by_length = self.settings.group_by_length
            pieces = cut_by_length(part, lengths, size, cost) if by_length else cut(part, size)
            return [MicroBatch(piece) for piece in pieces]

        return deal(rows, lengths, self.processes.index, self.processes.count, cut_up)

    def collate(self, micro_batch: MicroBatch) -> Batch:
        """Training rows as a batch: a sequence for each pack, or for each row, padded to the longest."""
        task, encoded = self.prepared.task, self.prepared.encoded["train"]
        if micro_batch.packs is None:
            return task.collate(encoded, micro_batch.rows)
        assert isinstance(task, CompletionTask)
        return task.collate_packed(encoded, micro_batch.packs)

    def largest(self, size: int) -> MicroBatch:
        """The largest micro-batch of `size` sequences that training may meet: the longest rows, packed where asked."""
        lengths = self.prepared.encoded["train"].lengths
        by_length = (-lengths).argsort(kind="stable")
        if not self.settings.packing:
            return MicroBatch(by_length[:size])
        # The longest rows, and enough shorter ones to fill up what they leave
        shorter = by_length[size:][:: max(1, (len(by_length) - size) // (size * _FILLERS))]
        return MicroBatch.of_packs(pack(np.concatenate([by_length[:size], shorter]), lengths)[:size])


def set_up(
    loaded: Loaded,
    prepared: Prepared,
    plan: Plan,
    checkpoint: Path | None,
    listener: Listener,
    processes: Processes,
) -> Session:
    """Base, method, head, optimiser and schedule, as they are before the first step or at `checkpoint`.

    Nothing is written yet; the learning rate is a number.
    """
    recipe, folder = loaded.recipe, RunFolder(loaded.run_folder, writes=processes.main)
    settings = recipe.train
    listener.working("loading the base")
    model, head = load_base(recipe.model, prepared.config, prepared.task.kind, settings.seed, processes.device)
    trained = attach_method(model, recipe, head)
    counts = trained.counts
    base_record = record_base(recipe.model, recipe.method, trained.modules)
    inputs = RunInputs.of(prepared.encoded, prepared.task.label_names, base_record.digest)
    if checkpoint is not None and (recorded := read_inputs(checkpoint)) is not None:
        require_same_inputs(checkpoint, recorded, inputs)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    accelerator = Accelerator(
        mixed_precision="bf16" if uses_bf16(settings) else "no",
        cpu=processes.count > 1 and processes.device.type == "cpu",
        log_with=settings.report_to or None,
        project_dir=folder.path,
    )
    processes = replace(processes, device=accelerator.device)
    order = training_order(recipe, prepared)
    total = total_steps(settings, order.steps_per_epoch)
    if checkpoint is not None:
        load_trained_weights(trained, recipe, checkpoint)
    optimizer, engine = build_engine(recipe, trained, accelerator, processes, plan.strategy)
    scheduler = build_scheduler(optimizer, settings, total)
    session = Session(
        loaded, folder, prepared, plan, listener, processes, accelerator, trained, counts, optimizer, engine, scheduler,
        order, total, TrainingState(), inputs, base_record,
        Trackers(accelerator, settings.report_to, listener.note),
    )  # fmt: skip
    seed_generators(settings.seed, processes)
    if checkpoint is not None:
        session.state = load_checkpoint(checkpoint, engine, scheduler, processes)
        if checkpoint.resolve().parent != folder.checkpoints.resolve():
            session.state.forget_best()  # its adapter lies in another run's folder
        listener.note(f"Going on from step {session.state.step} of {total} ({checkpoint}).")
    else:
        session.state.micro_batch_size = settings.micro_batch_size or _find_micro_batch_size(session)
    return session


def build_engine(
    recipe: Recipe, trained: Trained, accelerator: Accelerator, processes: Processes, choice: Choice
) -> tuple[torch.optim.Optimizer, Engine]:
    """The optimiser, and what spreads its steps, or the base as well, over the processes."""
    model = trained.model
    if choice.strategy == "fsdp":
        shard_base(model, trained, processes)
    elif not choice.sharded:
        to_device(model, accelerator.device)
    # evaluation_mode: precision is taken care of, and the model not wrapped
    accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    optimizer = build_optimizer(trained, recipe.train)
    if not choice.deepspeed:
        return optimizer, Replicated(model, trained, optimizer, processes, sharded=choice.sharded)
    config = deepspeed_config(recipe.launch, choice.strategy, recipe.train.max_grad_norm)
    return optimizer, Zero(model, trained, optimizer, processes, config)


def seed_generators(seed: int, processes: Processes) -> None:
    """Start every process's generators; each draws other dropout masks."""
    torch.manual_seed(seed if processes.main else seed + processes.index * _NEXT_PROCESS)


def begin(session: Session, search: LearningRateSearch | None) -> None:
    """Write what a run folder holds from the start; `search` is where the learning rate comes from, if it was found."""
    recipe, folder, settings = session.recipe, session.folder, session.settings
    folder.sweep()
    folder.trim_log(session.state.step)
    resolved = settings.model_copy(
        update={"micro_batch_size": session.state.micro_batch_size, "resume_from_checkpoint": False}
    )
    output = recipe.output.model_copy(update={"dir": str(folder.path.resolve())})
    recipe = recipe.model_copy(update={"train": resolved, "output": output})
    if search is not None and not has_search(folder.path):
        # Ended between these lines, the run can still be gone on with.
        folder.write_start(recipe.model_copy(update={"train": resolved.model_copy(update={"learning_rate": "auto"})}))
        replace(search, inputs=session.inputs).write(folder)
    folder.write_start(recipe, note=f"train.learning_rate: found by a search, {SEARCH_FILE}" if search else None)
    session.trackers.start(_flat_settings(session.recipe))


def save(session: Session) -> Path:
    """Write a checkpoint of the present state."""
    return save_checkpoint(
        session.folder.checkpoints, session.trained, session.recipe, session.engine, session.scheduler,
        session.state, session.inputs, session.processes, keep=session.settings.save_total_limit,
    )  # fmt: skip


def _find_micro_batch_size(session: Session) -> int:
    """Try a training step over the largest micro-batch, at ever smaller sizes, without leaving a trace."""
    encoded, processes, plan = session.prepared.encoded["train"], session.processes, session.plan
    engine, task = session.engine, session.prepared.task

    def try_step(size: int) -> None:
        batch = session.collate(session.largest(size)).to(processes.device)
        with torch.random.fork_rng():
            (task.loss(engine.model, batch) / batch.weight).backward()
        session.optimizer.zero_grad()

    def estimate(size: int) -> int:
        return 0 if plan.memory is None else plan.memory.of_rows(size)

    engine.model.train()
    most = min(-(-session.settings.batch_size // processes.count), len(encoded))
    if plan.strategy.deepspeed:  # a pass without a step would leave traces in it
        return processes.share(estimated_micro_batch_size(most, estimate, device_memory(processes.count)))
    return min(processes.gather(find_micro_batch_size(try_step, most, estimate)))


def _flat_settings(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.train.model_dump().items() if isinstance(value, int | float | str)}
