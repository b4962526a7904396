"""The schedule of a run: what its training goes by, decided before any weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass

from red_cli.distributed.processes import Processes
from red_cli.methods.trained import Trained
from red_cli.plan.batches import BatchSampler
from red_cli.plan.learning_rates import SearchPlan, plan_search
from red_cli.plan.memory import MemoryEstimate, bytes_per_parameter, estimate_memory
from red_cli.plan.prepare import Prepared
from red_cli.plan.steps import require_schedule, total_steps, warmup_steps
from red_cli.plan.strategy import Choice, choose_strategy
from red_cli.recipe.load import Loaded
from red_cli.recipe.schema import Recipe


@dataclass(frozen=True)
class Schedule:
    """What a training run goes by.

    Attributes:
        sampler: the rows of every optimiser step.
        search: the search for a learning rate before the run; None where the recipe gives the rate.
        memory: the estimated peak of a step; None where the model cannot be estimated.
    """

    sampler: BatchSampler
    total_steps: int
    warmup_steps: int
    search: SearchPlan | None
    memory: MemoryEstimate | None
    strategy: Choice


def make_schedule(loaded: Loaded, prepared: Prepared, trained: Trained, processes: Processes) -> Schedule:
    """The schedule of a run; `trained` is the method on a model without weights. All processes call it.

    Raises:
        UserError: the number of steps cannot be trained.
    """
    recipe = loaded.recipe
    sampler = BatchSampler(len(prepared.encoded["train"]), recipe.train.batch_size, recipe.train.seed)
    total = total_steps(recipe.train, sampler.steps_per_epoch)
    require_schedule(loaded, total, sampler.steps_per_epoch)
    searched = recipe.train.learning_rate == "auto"
    memory = _memory(trained, recipe, prepared)
    return Schedule(
        sampler=sampler,
        total_steps=total,
        warmup_steps=warmup_steps(recipe.train, total),
        search=plan_search(recipe.method, trained.modules, total) if searched else None,
        memory=memory,
        strategy=processes.broadcast(choose_strategy(recipe, memory, processes)),
    )


def _memory(trained: Trained, recipe: Recipe, prepared: Prepared) -> MemoryEstimate | None:
    """Estimated peak of a training step over the longest rows; None where the model cannot run without data."""
    encoded = prepared.encoded["train"]
    rows = min(recipe.train.micro_batch_size or recipe.train.batch_size, len(encoded))
    lengths, labelled = encoded.longest_inputs(prepared.task.kind.encoder_decoder)
    if recipe.train.packing:
        labelled = lengths["inputs_embeds"]
    try:
        return estimate_memory(
            trained.model, trained.counts, bytes_per_parameter(recipe.model), rows, lengths, labelled
        )
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
