"""A loaded model with its base, recipe, processes and listener, for prediction, chat and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from red_cli.base_model.base_dtype import fetch_for_dtype
from red_cli.base_model.load import load_skeleton, to_device
from red_cli.base_model.positions import longest_sequence
from red_cli.base_model.prepare import uses_bf16
from red_cli.distributed.accelerate_settings import take_settings_for_inference
from red_cli.distributed.device import USABLE_SHARE, device_memory
from red_cli.distributed.parameter_chunks import sharding_of
from red_cli.distributed.process_group import SINGLE_PROCESS, Processes, join_processes
from red_cli.distributed.sharded_base import shard_base
from red_cli.distributed.worker_process import processes_here
from red_cli.inference.prefix_states import PrefixStates
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import DEEPSPEED
from red_cli.runs.events import Listener, NullListener
from red_cli.runs.load_opened import load_model
from red_cli.runs.open_trained import Opened
from red_cli.tasks.base import Base, Encoded
from red_cli.tasks.text.token_loss import synchronised_chunks


@dataclass(frozen=True)
class Runtime:
    """A model on its device, with all that prediction needs.

    Attributes:
        recipe: its precision, seed and evaluation options apply.
        processes: the ranks that share the rows.
        sharded: whether each rank holds a part of the base only, so that every forward pass is collective.
        prefix: stored hidden states by which passes skip leading layers, while a run with them trains.
    """

    model: PreTrainedModel
    base: Base
    recipe: Recipe
    listener: Listener
    processes: Processes = SINGLE_PROCESS
    sharded: bool = False
    prefix: PrefixStates | None = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's tokenizer."""
        return self.base.tokenizer

    @property
    def context(self) -> int:
        """The context length of the base, in tokens."""
        return longest_sequence(self.model.config, self.base.tokenizer)

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the recipe's precision inside the block."""
        if not uses_bf16(self.recipe.train):
            return nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Compute inside the block in the recipe's precision, and in step with the other ranks if they share a base."""
        chunks = synchronised_chunks(self.processes.max_over_ranks) if self.sharded else nullcontext()
        with self.autocast(), chunks:
            yield

    def skipping_prefix(self, encoded: Encoded, sequences: Sequence[Sequence[int]]) -> AbstractContextManager[Any]:
        """Skip leading layers inside the block, in a pass over these rows, if their hidden states are stored."""
        return nullcontext() if self.prefix is None else self.prefix.skipping(encoded, sequences)

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Record no gradients inside the block; a sharded base cannot use inference mode."""
        return torch.no_grad() if self.sharded else torch.inference_mode()


def join_for_inference(recipe: Recipe, listener: Listener) -> Processes:
    """The start of a runtime for predictions: join the other processes, if a launcher started several.

    Raises:
        UserError: as `join_processes`, or Accelerate's settings contradict the recipe's launch section.
    """
    notes = take_settings_for_inference(recipe)
    launch = recipe.launch
    strategy = "auto" if launch.strategy in DEEPSPEED else launch.strategy
    processes = join_processes(launch.model_copy(update={"strategy": strategy}))
    for note in notes if processes.main else []:
        listener.note(note)
    return processes


def load_runtime(opened: Opened, base: Base, listener: Listener, processes: Processes) -> Runtime:
    """Load a trained model to the device of this process, or its share of the base if that fits on no device.

    Raises:
        UserError: as `load_model`.
    """
    recipe, device = opened.recipe, processes.device
    fetch_for_dtype(recipe, listener.status)
    # The ranks agree: devices of different sizes are not all too small
    sharded = processes.count > 1 and processes.any_rank(_is_sharded(base, recipe, processes))[0]
    sharding = sharding_of(recipe.launch, processes) if sharded else None
    model, trained = load_model(opened, base, device, sharding)
    if sharding is None:
        to_device(model, device)
    else:
        shard_base(model, trained, sharding)
    return Runtime(model, base, recipe, listener if processes.main else NullListener(), processes, sharded)


def _is_sharded(base: Base, recipe: Recipe, processes: Processes) -> bool:
    """Whether the ranks share a base: if the recipe says so, or leaves it open and the base fits on no device."""
    if recipe.launch.strategy != "auto" or recipe.model.quantization is not None:
        return recipe.launch.strategy == "fsdp"
    skeleton = load_skeleton(base.config, recipe.model, base.kind)
    needed = sum(parameter.nbytes for parameter in skeleton.parameters())
    here = processes_here(processes.count, recipe.launch.num_machines)
    return needed > device_memory(processes.device, here) * USABLE_SHARE
