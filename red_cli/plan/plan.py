"""The plan of a run: its schedule, and the summary that `red check` and `red train` show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from red_cli.base_model.base_dtype import BaseDtype, recipe_dtype
from red_cli.base_model.load import load_skeleton
from red_cli.distributed.device import chosen_device
from red_cli.distributed.process_group import SINGLE_PROCESS, Processes
from red_cli.edit.attached_adapters import Counts, edits
from red_cli.edit.repeated_layers import blocks, most_in_a_layer
from red_cli.edit.trained_head import head_parameter_names
from red_cli.errors import UserError
from red_cli.export.bias_placement import place_biases
from red_cli.methods.attach_save_load import attach_method
from red_cli.methods.method import Trained
from red_cli.plan.data_summary import Example, Lengths
from red_cli.plan.host_memory import HostMemory, host_memory
from red_cli.plan.memory import MemoryEstimate, bytes_per_parameter
from red_cli.plan.prefix_plan import PrefixPlan
from red_cli.plan.prepare import Prepared, Scoring
from red_cli.plan.schedule import Schedule, make_schedule, schedule_notes
from red_cli.plan.search_plan import SearchPlan
from red_cli.plan.strategy import StrategyChoice, choose_strategy
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.schema import Recipe, with_dtype
from red_cli.tasks.encoded.cached import uses_text
from red_cli.tasks.special_tokens import SpecialTokens

_SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class PlanSummary:
    """What a run will do: the content of "plan" in `red check --json`."""

    task: str
    base: str
    architecture: str
    dtype: BaseDtype
    method: str
    trains: str
    edited_modules: list[str]
    counts: Counts
    learning_rate: float | None  # None: a search finds it
    relative_rates: bool
    modules_per_layer: int  # at most; relative rates are divided by it
    search: SearchPlan | None
    total_steps: int
    warmup_steps: int
    steps_per_epoch: int
    batch_size: int
    micro_batch_size: int | None
    metric: str
    max_length: int
    scoring: Scoring
    lengths: dict[str, Lengths]
    encoded_rows: str | None  # where they were kept or read from; None: all splits are small
    label_names: list[str] | None
    classes: Mapping[str, dict[str, int]]  # split -> label -> number of rows
    class_weights: Mapping[str, float] | None  # label -> weight in the training loss
    examples: list[Example]
    memory: MemoryEstimate | None
    prefix: PrefixPlan | None  # the cache of a frozen prefix; None: the recipe asks for none
    largest_block: int  # bytes of the largest layer, which a device gathers to compute it
    processes: int
    strategy: StrategyChoice
    host: HostMemory  # for as many processes as the run has, which `red check` does not start
    export_obstacle: str | None  # why the edits cannot be merged into ordinary weights
    paper_mismatch: str | None  # why the recipe's figures of the paper are not shown
    special_tokens: dict[str, SpecialTokens]  # split -> special tokens in its texts; splits without any are left out
    notes: list[str]  # keys that have no effect, and what the data have that is not read

    @property
    def edited_pattern(self) -> str:
        """The paths of the edited modules, with * for the number of the layer."""
        patterns = dict.fromkeys(re.sub(r"\.\d+\.", ".*.", path) for path in self.edited_modules)
        return ", ".join(patterns)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "memory_bytes": None if self.memory is None else self.memory.total}


def summarise(
    loaded: LoadedRecipe,
    prepared: Prepared,
    dtype: BaseDtype,
    trained: Trained,
    schedule: Schedule,
    processes: Processes,
    started: int,
) -> PlanSummary:
    """Summarise a run; `trained` is the method on a model without weights.

    Args:
        started: the number of processes of the run, if those of the plan are others.
    """
    recipe, method = loaded.recipe, loaded.recipe.method_spec
    total, steps_per_epoch = schedule.total_steps, schedule.sampler.steps_per_epoch
    strategy = schedule.strategy
    if started != processes.count:
        strategy = choose_strategy(recipe, schedule.memory, Processes(count=started))
    rate = recipe.train.learning_rate
    return PlanSummary(
        task=recipe.task.title,
        base=recipe.model.name_or_path,
        architecture=prepared.base.config.model_type,
        dtype=dtype,
        method=method.title,
        trains=method.what_trains,
        edited_modules=trained.modules,
        counts=trained.counts,
        learning_rate=None if rate == "auto" else rate,
        relative_rates=recipe.relative_rates,
        modules_per_layer=most_in_a_layer(trained.modules),
        search=schedule.search,
        total_steps=total,
        warmup_steps=schedule.warmup_steps,
        steps_per_epoch=steps_per_epoch,
        batch_size=recipe.train.batch_size,
        micro_batch_size=recipe.train.micro_batch_size,
        metric=prepared.task.metric,
        max_length=prepared.base.max_length,
        scoring=prepared.scoring,
        lengths={
            split: Lengths.of(encoded, prepared.left_out.get(split, {})) for split, encoded in prepared.encoded.items()
        },
        encoded_rows=uses_text(prepared.cache_uses) or None,
        label_names=prepared.label_names,
        classes=prepared.classes,
        class_weights=prepared.class_weights,
        examples=_examples(prepared),
        memory=schedule.memory,
        prefix=schedule.prefix,
        largest_block=_largest_block(trained.model, recipe, prepared.base.config),
        processes=processes.count,
        strategy=schedule.strategy,
        host=host_memory(
            trained.model, prepared.base.config, recipe, schedule.memory, strategy, started, chosen_device()
        ),
        export_obstacle=_export_obstacle(trained.model) if method.edits else None,
        paper_mismatch=recipe.paper_mismatch if method.edits else None,
        special_tokens={split: found for split, found in prepared.special_tokens.items() if found.rows},
        notes=[
            *loaded.notes,
            *prepared.notes,
            *dict.fromkeys(note for encoded in prepared.encoded.values() for note in encoded.notes),
            *schedule_notes(loaded, schedule),
        ],
    )


def _largest_block(model: PreTrainedModel, recipe: Recipe, config: PretrainedConfig) -> int:
    """The bytes of the base's largest layer for the plan that `red check` and `red train` show."""
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks(model)]
    return int(max(sizes, default=0) * bytes_per_parameter(recipe.model, config))


def _export_obstacle(model: PreTrainedModel) -> str | None:
    """Why the planned edits cannot be exported as merged weights; None if they can."""
    without_bias = [
        path
        for path, vectors in edits(model)
        if vectors.bias is not None and getattr(model.get_submodule(path), "bias", None) is None
    ]
    try:
        place_biases(model.config.model_type, model.config.to_dict(), without_bias)
    except UserError as error:
        return error.message
    return None


def _examples(prepared: Prepared) -> list[Example]:
    """The plan's first training examples, as `red check` shows them: tokens, label and loss mask."""
    encoded = prepared.encoded["train"]
    rows = [prepared.encoder.show(encoded, index) for index in range(min(_SHOWN_EXAMPLES, len(encoded)))]
    return [
        Example(
            tokens=[prepared.base.tokenizer.decode([token]) for token in row.ids],
            masked=row.masked,
            label=row.label,
            learnt=[place >= row.masked for place in range(len(row.ids))] if row.loss_mask is None else row.loss_mask,
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Plan:
    """The schedule of a run, and its summary for the user."""

    schedule: Schedule
    summary: PlanSummary


def make_plan(
    loaded: LoadedRecipe, prepared: Prepared, processes: Processes = SINGLE_PROCESS, started: int | None = None
) -> Plan:
    """Plan a run from the configuration and the headers of the weights, on a model without weights.

    Args:
        processes: those that plan, all of which call this function.
        started: the number of processes of the run, for whose memory the plan tells; None: those that plan.

    Raises:
        UserError: the architecture or a position is unknown, or the schedule cannot be used.
    """
    config = prepared.base.config
    dtype = processes.broadcast(recipe_dtype(loaded.recipe, config) if processes.main else None)
    loaded = replace(loaded, recipe=with_dtype(loaded.recipe, dtype.name))
    model = load_skeleton(config, loaded.recipe.model, prepared.task.kind)
    trained = attach_method(model, loaded.recipe, head_parameter_names(model))
    schedule = make_schedule(loaded, prepared, trained, processes)
    started = processes.count if started is None else started
    return Plan(schedule, summarise(loaded, prepared, dtype, trained, schedule, processes, started))
