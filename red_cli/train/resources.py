"""The rows and the base that a run trains with: its own, or those that several runs of one process share."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import PreTrainedModel

from red_cli.base_model.digest import BaseRecord, take_digest
from red_cli.base_model.load import load_base, to_device
from red_cli.base_model.prepare import uses_bf16
from red_cli.distributed.data_parallel import DataParallel
from red_cli.distributed.deepspeed import Zero
from red_cli.distributed.deepspeed_config import deepspeed_config
from red_cli.distributed.device import chosen_device
from red_cli.distributed.engine import Engine, Replicated
from red_cli.distributed.parameter_chunks import sharding_of
from red_cli.distributed.process_group import Processes
from red_cli.distributed.sharded_base import shard_base
from red_cli.methods.attach_save_load import attach_method
from red_cli.methods.method import Trained
from red_cli.plan.prepare import Prepared, prepare
from red_cli.plan.strategy import StrategyChoice
from red_cli.recipe.schema import Recipe
from red_cli.train.optimizer import build_optimizer


class Resources(Protocol):
    """Where the rows and the base of a run come from. The methods are called in this order."""

    def prepare(self, recipe: Recipe) -> Prepared:
        """Read and encode the rows.

        Raises:
            UserError: the data, the configuration or the tokenizer cannot be used.
        """

    def attach(self, recipe: Recipe, prepared: Prepared, processes: Processes, choice: StrategyChoice) -> Trained:
        """The recipe's method on a base with weights, with the head that the recipe's seed draws.

        If `choice` shards the base, this rank may have only its chunks of the weights until `engine` is called.

        Raises:
            UserError: the base cannot be loaded.
        """

    def record(self, recipe: Recipe, trained: Trained) -> BaseRecord:
        """The base's revision and digest."""

    def engine(
        self, recipe: Recipe, trained: Trained, processes: Processes, choice: StrategyChoice
    ) -> tuple[torch.optim.Optimizer, Engine, Processes]:
        """Move the base to its device; the optimiser, the engine of `choice`, and the ranks with their device."""

    def release(self, trained: Trained) -> None:
        """Give up what `attach` returned, when the run needs it no more."""


class OwnResources:
    """The resources of a run that has its process for itself: everything is read and loaded for it."""

    def prepare(self, recipe: Recipe) -> Prepared:
        return prepare(recipe)

    def attach(self, recipe: Recipe, prepared: Prepared, processes: Processes, choice: StrategyChoice) -> Trained:
        config, kind = prepared.base.config, prepared.task.kind
        # A method that trains parameters of the base reads them before they are sharded
        in_chunks = choice.sharded and recipe.method_spec.base_parameters == "none"
        chunks = sharding_of(recipe.launch, processes) if in_chunks else None
        model, head = load_base(recipe.model, config, kind, recipe.train.seed, processes.device, chunks)
        return attach_method(model, recipe, head)

    def record(self, recipe: Recipe, trained: Trained) -> BaseRecord:
        return take_digest(recipe.model, recipe.method, trained.modules)

    def engine(
        self, recipe: Recipe, trained: Trained, processes: Processes, choice: StrategyChoice
    ) -> tuple[torch.optim.Optimizer, Engine, Processes]:
        model = trained.model
        accelerator = accelerator_for(recipe, model, processes)
        sharding = sharding_of(recipe.launch, processes) if choice.sharded else None
        processes = replace(processes, device=chosen_device())
        if sharding is None:
            to_device(model, processes.device)
        elif not choice.deepspeed:
            shard_base(model, trained.parameters(trained.names), sharding)
        set_precision(accelerator, model)
        optimizer = build_optimizer(trained, recipe)
        if choice.strategy == "ddp" and recipe.method_spec.base_parameters == "all":
            return optimizer, DataParallel(trained, optimizer, processes), processes
        if not choice.deepspeed:
            return optimizer, Replicated(model, trained, optimizer, processes, sharded=choice.sharded), processes
        config = deepspeed_config(recipe.launch, choice.strategy, recipe.train)
        return optimizer, Zero(model, trained, optimizer, processes, config, sharding), processes

    def release(self, trained: Trained) -> None: ...


def checkpoint_gradients(model: PreTrainedModel) -> None:
    """Set up a model to compute activations again in the backward pass, from the first layer that trains on."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    # The library has the embeddings' output require gradients, as reentrant checkpoints need it. With it every layer
    # below the first edited one would run again, and backwards.
    model.disable_input_require_grads()


def accelerator_for(recipe: Recipe, model: PreTrainedModel, processes: Processes) -> Accelerator:
    """Accelerate's settings for a run; the base recomputes activations if the recipe says so."""
    if recipe.train.gradient_checkpointing:
        checkpoint_gradients(model)
    AcceleratorState._reset_state()  # an earlier run in this process may have used another precision
    return Accelerator(
        mixed_precision="bf16" if uses_bf16(recipe.train) else "no",
        cpu=processes.count > 1 and processes.device.type == "cpu",
    )


def set_precision(accelerator: Accelerator, model: PreTrainedModel) -> None:
    """Compute in the accelerator's precision."""
    # evaluation_mode: accelerate sets the precision and does not wrap the model
    accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
