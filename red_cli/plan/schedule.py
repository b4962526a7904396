"""The schedule of a run: steps, batches, memory and strategy, decided before the weights are loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from red_cli.distributed.process_group import Processes
from red_cli.edit.repeated_layers import blocks
from red_cli.methods.method import Trained
from red_cli.plan.batches import BatchSampler
from red_cli.plan.memory import MemoryEstimate, bytes_per_parameter, estimate_memory
from red_cli.plan.prefix_plan import PrefixPlan, no_effect, plan_prefix
from red_cli.plan.prepare import Prepared
from red_cli.plan.search_plan import SearchPlan, plan_search
from red_cli.plan.strategy import StrategyChoice, choose_strategy
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.schema import Recipe, Train

MOST_STEPS = 1_000_000_000
COMPILE = "train.compile"


def total_steps(settings: Train, steps_per_epoch: int) -> int:
    """Optimiser steps of the run."""
    return settings.max_steps or max(1, math.ceil(settings.num_train_epochs * steps_per_epoch))


def warmup_steps(settings: Train, total: int) -> int:
    """Optimiser steps in which the learning rate rises from 0 to its peak."""
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    return math.ceil(settings.warmup_ratio * total)


def require_schedule(loaded: LoadedRecipe, total: int, steps_per_epoch: int) -> None:
    """Check that a run of `total` optimiser steps ends, and that its warm-up fits into it.

    Raises:
        UserError: there are too many steps, or more warm-up steps than steps.
    """
    train = loaded.recipe.train
    if total > MOST_STEPS:
        passes = f"{train.num_train_epochs:g} passes over {steps_per_epoch:,} steps are {total:,}"
        raise loaded.refuse(("train", "num_train_epochs"), f"{passes}, more than {MOST_STEPS:,}")
    if warmup_steps(train, total) > total:
        what = f"{train.warmup_steps:,} steps to warm up are more than the {total:,} of the run"
        raise loaded.refuse(("train", "warmup_steps"), what)


def schedule_notes(loaded: LoadedRecipe, schedule: Schedule) -> list[str]:
    """Notes on keys that have no effect in a run."""
    train, total, steps_per_epoch = loaded.recipe.train, schedule.total_steps, schedule.sampler.steps_per_epoch
    notes = []
    if schedule.prefix is not None and schedule.prefix.obstacle is not None:
        notes.append(no_effect(schedule.prefix.obstacle))
    if schedule.uncompiled is not None:
        notes.append(f"{COMPILE} has no effect: {schedule.uncompiled}")
    for key in ("eval_steps", "save_steps"):
        steps = getattr(train, key)
        if steps is not None and steps > total:
            notes.append(f"train.{key}: {steps:,} is never reached: the run has {total:,} steps")
    evaluations = math.ceil(total / (train.eval_steps or steps_per_epoch))
    patience = train.early_stopping_patience
    if patience is not None and patience >= evaluations:
        what = f"{patience:,} is never used up: the run evaluates {evaluations:,} times"
        notes.append(f"train.early_stopping_patience: {what}")
    return notes


def obstacle_to_compiling(model: nn.Module, strategy: StrategyChoice, prefix: PrefixPlan | None) -> str | None:
    """Why the schedule of a run compiles no layers although its recipe asks for it; None if it does.

    Args:
        prefix: the cache of a frozen prefix, whose layers do not run in training steps.
    """
    layers = len(blocks(model))
    if strategy.deepspeed:
        return f"launch.strategy is {strategy.strategy}; it needs single, ddp or fsdp"
    if layers == 0:
        return f"a {type(model).__name__} has no repeated layers"
    if prefix is not None and prefix.obstacle is None and prefix.layers == layers:
        return "train.cache_prefix leaves no layers that training steps run"
    return None


@dataclass(frozen=True)
class Schedule:
    """The schedule of a training run.

    Attributes:
        sampler: the rows of each optimiser step.
        search: the learning-rate search before the run, or None if the recipe gives the rate.
        memory: the estimated peak of a step, or None if it cannot be estimated.
        prefix: the cache of a frozen prefix, or None if the recipe asks for none.
        uncompiled: why layers are not compiled although the recipe asks for it; None if they are, or it does not.
    """

    sampler: BatchSampler
    total_steps: int
    warmup_steps: int
    search: SearchPlan | None
    memory: MemoryEstimate | None
    strategy: StrategyChoice
    prefix: PrefixPlan | None = None
    uncompiled: str | None = None


def make_schedule(loaded: LoadedRecipe, prepared: Prepared, trained: Trained, processes: Processes) -> Schedule:
    """The schedule of a run: its steps and evaluations; `trained` has no weights. All ranks call it.

    Raises:
        UserError: the number of steps or of warm-up steps cannot be used.
    """
    recipe = loaded.recipe
    sampler = BatchSampler(len(prepared.encoded["train"]), recipe.train.batch_size, recipe.train.seed)
    total = total_steps(recipe.train, sampler.steps_per_epoch)
    require_schedule(loaded, total, sampler.steps_per_epoch)
    searched = recipe.train.learning_rate == "auto"
    memory = _memory(trained, recipe, prepared)
    strategy = processes.broadcast(choose_strategy(recipe, memory, processes))
    prefix = processes.broadcast(plan_prefix(loaded, prepared, trained, total, sampler.steps_per_epoch, strategy))
    return Schedule(
        sampler=sampler,
        total_steps=total,
        warmup_steps=warmup_steps(recipe.train, total),
        search=plan_search(recipe.method, trained.modules, total, strategy.strategy) if searched else None,
        memory=memory,
        strategy=strategy,
        prefix=prefix,
        uncompiled=obstacle_to_compiling(trained.model, strategy, prefix) if recipe.train.compile else None,
    )


def _memory(trained: Trained, recipe: Recipe, prepared: Prepared) -> MemoryEstimate | None:
    """Estimate the peak of a step over the longest rows; None if the model cannot run on the meta device."""
    encoded = prepared.encoded["train"]
    rows = min(recipe.train.micro_batch_size or recipe.train.batch_size, len(encoded))
    lengths, labelled = encoded.longest_inputs(prepared.task.kind.encoder_decoder)
    if recipe.train.packing:
        labelled = lengths["inputs_embeds"]
    try:
        return estimate_memory(
            trained.model,
            trained.counts,
            bytes_per_parameter(recipe.model, prepared.base.config),
            rows,
            lengths,
            labelled,
        )
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
