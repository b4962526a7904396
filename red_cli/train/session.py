"""The state of a training run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from red_cli.base_model.digest import BaseRecord
from red_cli.distributed.engine import Engine
from red_cli.distributed.process_group import Processes
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.attached_adapters import Counts
from red_cli.inference.runtime import Runtime
from red_cli.methods.method import Trained
from red_cli.plan.batches import MicroBatch, RowIndices, bucket_by_length, shard_micro_batches, split
from red_cli.plan.prepare import Prepared
from red_cli.plan.schedule import Schedule
from red_cli.recipe.schema import Recipe, Train
from red_cli.runs.folder import RunFolder
from red_cli.runs.inputs import RunInputs
from red_cli.runs.output_spread_file import OutputSpread
from red_cli.tasks.base import Batch
from red_cli.tasks.text.encoder import TextEncoder
from red_cli.tasks.text.packing import pack
from red_cli.train.checkpoint_folder import TrainingState
from red_cli.train.collate_ahead import StepBatches
from red_cli.train.events import TrainingListener
from red_cli.train.lock import FolderLock
from red_cli.train.samples import SamplePrompts
from red_cli.train.stopping import Stop
from red_cli.train.trackers import Trackers

# The cost of a further micro-batch, in tokens: small on a CPU, some hundred kernel launches on a GPU.
CUT_COST = {"cpu": 64, "cuda": 16384}
_FILLERS = 16  # rows tried for each sequence of the largest packed micro-batch


@dataclass(frozen=True)
class Optimisation:
    """A session's optimiser, its scheduler, and the engine that steps them on all ranks."""

    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    engine: Engine


@dataclass
class Session:
    """A training run: data, schedule, model, optimisation and progress.

    Attributes:
        trained: the trainable parameters of `runtime.model`, for saving.
        counts: the numbers of parameters, taken before the base is sharded.
        inputs: the digests of rows and base that checkpoints record.
        stop: whether the run was asked to stop.
        output_spread: the unit of relative learning rates; None if they are absolute, or the run resumes.
        samples: the prompts that each evaluation answers; None for none.
        lock: the lock of the run folder; None during a learning-rate search.
    """

    folder: RunFolder
    prepared: Prepared
    schedule: Schedule
    runtime: Runtime
    listener: TrainingListener
    trained: Trained
    counts: Counts
    optimisation: Optimisation
    state: TrainingState
    inputs: RunInputs
    base_record: BaseRecord
    trackers: Trackers
    stop: Stop
    output_spread: OutputSpread | None = None
    samples: SamplePrompts | None = None
    lock: FolderLock | None = None

    @property
    def model(self) -> PreTrainedModel:
        """The model for scoring; `engine.model` is the one for training."""
        return self.runtime.model

    @property
    def processes(self) -> Processes:
        return self.runtime.processes

    @property
    def engine(self) -> Engine:
        return self.optimisation.engine

    @property
    def recipe(self) -> Recipe:
        """The recipe, with a number as learning rate."""
        return self.runtime.recipe

    @property
    def settings(self) -> Train:
        return self.runtime.recipe.train

    def require_folder(self) -> None:
        """End the run if its folder was deleted; writing would create only a part of it.

        Raises:
            RunFailed: it was.
        """
        if self.processes.main and self.lock is not None:
            self.lock.require_held()

    def micro_batches(self, rows: RowIndices) -> list[MicroBatch]:
        """This rank's share of a step's rows, in micro-batches of at most `state.micro_batch_size` sequences."""
        size, lengths = self.state.micro_batch_size, self.prepared.encoded["train"].lengths
        cost = CUT_COST.get(self.processes.device.type, CUT_COST["cuda"])

        def micro_batches_of(part: RowIndices) -> list[MicroBatch]:
            if self.settings.packing:
                packs = pack(part, lengths)
                return [MicroBatch.of_packs(packs[start : start + size]) for start in range(0, len(packs), size)]
            by_length = self.settings.group_by_length
            pieces = bucket_by_length(part, lengths, size, cost) if by_length else split(part, size)
            return [MicroBatch(piece) for piece in pieces]

        return shard_micro_batches(rows, lengths, self.processes.index, self.processes.count, micro_batches_of)

    def collate_step(self, rows: RowIndices) -> StepBatches:
        """Collate this rank's share of a step's rows; for CUDA in memory that it copies from by itself."""
        batches = [(piece, self.collate(piece)) for piece in self.micro_batches(rows)]
        if self.processes.device.type == "cuda":
            batches = [(piece, batch.pinned()) for piece, batch in batches]
        return StepBatches(rows, batches)

    def collate(self, micro_batch: MicroBatch) -> Batch:
        """Collate training rows: one sequence per pack, or per row without packing, padded to the longest."""
        encoder, encoded = self.prepared.encoder, self.prepared.encoded["train"]
        if micro_batch.packs is not None:
            assert isinstance(encoder, TextEncoder)
            return encoder.collate_packed(encoded, micro_batch.packs)
        batch = encoder.collate(encoded, micro_batch.rows)
        architecture = ARCHITECTURES.get(self.prepared.base.config.model_type)
        return batch if architecture is None or architecture.looks_for_padding else batch.without_full_mask()

    def largest(self, size: int) -> MicroBatch:
        """The largest possible micro-batch of `size` sequences: the longest rows, packed if the recipe packs."""
        lengths = self.prepared.encoded["train"].lengths
        by_length = (-lengths).argsort(kind="stable")
        if not self.settings.packing:
            return MicroBatch(by_length[:size])
        # The longest rows, and enough shorter ones to fill the packs
        shorter = by_length[size:][:: max(1, (len(by_length) - size) // (size * _FILLERS))]
        return MicroBatch.of_packs(pack(np.concatenate([by_length[:size], shorter]), lengths)[:size])
