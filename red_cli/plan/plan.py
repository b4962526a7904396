"""What a recipe will do, without doing it: what is edited, how many steps, how much memory, what the model sees."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from red_cli.base_model.load import (
    fit_attention,
    fit_config,
    fit_padding,
    load_config,
    load_tokenizer,
    resolve_max_length,
    skeleton,
)
from red_cli.distributed.processes import ALONE, Processes
from red_cli.edit.model import Counts, edits, head_parameter_names
from red_cli.edit.search import blocks
from red_cli.errors import UserError, shown
from red_cli.export.homes import find_home
from red_cli.methods.table import attach_method
from red_cli.methods.trained import Trained
from red_cli.plan.batches import Order
from red_cli.plan.learning_rates import SearchPlan, plan_search
from red_cli.plan.memory import MemoryEstimate, estimate_memory
from red_cli.plan.steps import require_schedule, schedule_notes, total_steps, warmup_steps
from red_cli.plan.strategy import Choice, choose_strategy
from red_cli.recipe.load import Loaded
from red_cli.recipe.paper_figure import paper_mismatch
from red_cli.recipe.schema import Recipe
from red_cli.tasks.base import Encoded, Task
from red_cli.tasks.build import build_task
from red_cli.tasks.data.splits import scored_split
from red_cli.tasks.data.tables import Rows, RowsUsed
from red_cli.tasks.text.language import EncodedTexts

_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "nf4": 0.5}
_SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class Lengths:
    """Tokens per row of a split."""

    rows: int
    shortest: int
    median: int
    percentile_95: int
    longest: int
    truncated: int
    ends_cut: int
    left_out: dict[str, int]  # why rows were left out -> how many

    @classmethod
    def of(cls, encoded: Encoded) -> Lengths:
        lengths = encoded.lengths
        middle, high = np.percentile(lengths, [50, 95])
        return cls(len(encoded), int(lengths.min()), int(middle), int(high), int(lengths.max()),
                   encoded.truncated, encoded.ends_cut, dict(encoded.left_out))  # fmt: skip


@dataclass(frozen=True)
class Scoring:
    """Which rows choose the best evaluation, and which give the score; under "standard" they are the same."""

    split: str  # eval.split
    selection: RowsUsed
    scored: RowsUsed


@dataclass(frozen=True)
class Example:
    """A row as the model sees it."""

    tokens: list[str]
    masked: int  # so many of the first tokens are not learnt
    label: str | float | None
    learnt: list[bool]  # which tokens are


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    task: str
    base: str
    architecture: str
    method: str
    trains: str
    edited_modules: list[str]
    counts: Counts
    learning_rate: float | None  # None: found by a search
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
    label_names: list[str] | None
    examples: list[Example]
    memory: MemoryEstimate | None
    largest_block: int  # bytes of the largest layer, which is whole on a device while it computes
    processes: int
    strategy: Choice
    export_obstacle: str | None  # why the result cannot become ordinary merged weights
    paper_mismatch: str | None  # why the paper's figures in the recipe are not shown
    notes: list[str]  # keys that have no effect

    @property
    def edited_pattern(self) -> str:
        """The edited modules' paths with the layers' numbers left out."""
        patterns = dict.fromkeys(re.sub(r"\.\d+\.", ".*.", path) for path in self.edited_modules)
        return ", ".join(patterns)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "memory_bytes": None if self.memory is None else self.memory.total}


@dataclass(frozen=True)
class Prepared:
    """A recipe's task, data and base, up to the weights."""

    task: Task
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    encoded: dict[str, Encoded]  # the splits that training needs
    places: dict[str, NDArray[np.int64] | None]  # where each split's rows stand in their source; None: it is all of it
    scoring: Scoring


def prepare(recipe: Recipe) -> Prepared:
    """Read the data, the tokenizer and the configuration, and encode the training and validation splits.

    Raises:
        UserError: anything about them is wrong.
    """
    config = load_config(recipe.model)
    task = build_task(recipe, config)
    needed = ("train", *task.validation_splits)
    splits = task.load(recipe.train.seed, needed)
    splits["train"] = drawn(splits["train"], recipe.data.max_train_rows, recipe.train.seed)
    fit_config(config, recipe.model, task.kind, task.label_names)
    tokenizer = load_tokenizer(recipe.model)
    fit_padding(config, tokenizer)
    max_length = resolve_max_length(recipe.data.max_length, config, tokenizer)
    fit_attention(config, task.kind, recipe.train, max_length)
    encoded = {split: task.encode(splits[split], tokenizer, max_length) for split in needed}
    for split in needed:
        splits[split] = encoded[split].kept_rows(split, splits[split])
        require_labels(encoded[split], splits[split].source, task.label_column)
        if encoded[split].features["input_ids"].max() >= getattr(config, "vocab_size", math.inf):
            raise UserError(f"{recipe.model.name_or_path}: the tokenizer has more tokens than the model")
    used = {split: RowsUsed.of(split, splits[split]) for split in needed}
    scoring = Scoring(recipe.eval.split, used[task.validation_splits[0]], used[scored_split(task)])
    places = {split: splits[split].places for split in needed}
    return Prepared(task, config, tokenizer, max_length, encoded, places, scoring)


def drawn(rows: Rows, most: int | None, seed: int) -> Rows:
    """At most `most` of the rows, drawn by `seed`, in the file's order."""
    if most is None or rows.table.num_rows <= most:
        return rows
    chosen = np.random.default_rng(seed).permutation(rows.table.num_rows)[:most]
    return rows.take(sorted(chosen.tolist()))


def require_labels(encoded: Encoded, source: str, column: str) -> None:
    """Refuse a split that cannot be learnt from or scored."""
    if encoded.labels is None:
        raise UserError(
            f"{source} has nothing to learn: column {shown(column)} is missing or empty",
            hint="Name the column of labels or completions with data.columns.",
        )


def training_order(recipe: Recipe, prepared: Prepared) -> Order:
    """The batches of the run."""
    return Order(len(prepared.encoded["train"]), recipe.train.batch_size, recipe.train.seed)


def make_plan(loaded: Loaded, prepared: Prepared, processes: Processes = ALONE) -> Plan:
    """The plan, from the configuration alone: the model is built without weights.

    Raises:
        UserError: the architecture or a position is not known, or the number of steps is no schedule.
    """
    recipe, method = loaded.recipe, loaded.recipe.method_spec
    model = skeleton(prepared.config, recipe.model, prepared.task.kind)
    trained = attach_method(model, recipe, head_parameter_names(model))
    order = training_order(recipe, prepared)
    total = total_steps(recipe.train, order.steps_per_epoch)
    require_schedule(loaded, total, order.steps_per_epoch)
    rate = recipe.train.learning_rate
    memory = _memory(trained, recipe, prepared)
    return Plan(
        task=recipe.task.title,
        base=recipe.model.name_or_path,
        architecture=prepared.config.model_type,
        method=method.title,
        trains=method.what_trains,
        edited_modules=trained.modules,
        counts=trained.counts,
        learning_rate=None if rate == "auto" else rate,
        search=plan_search(recipe.method, trained.modules, total) if rate == "auto" else None,
        total_steps=total,
        warmup_steps=warmup_steps(recipe.train, total),
        steps_per_epoch=order.steps_per_epoch,
        batch_size=recipe.train.batch_size,
        micro_batch_size=recipe.train.micro_batch_size,
        metric=prepared.task.metric,
        max_length=prepared.max_length,
        scoring=prepared.scoring,
        lengths={split: Lengths.of(encoded) for split, encoded in prepared.encoded.items()},
        label_names=prepared.task.label_names,
        examples=_examples(prepared),
        memory=memory,
        largest_block=_largest_block(trained.model, recipe),
        processes=processes.count,
        strategy=processes.share(choose_strategy(recipe, memory, processes)),
        export_obstacle=_export_obstacle(model) if method.edits else None,
        paper_mismatch=paper_mismatch(recipe) if method.edits else None,
        notes=[*loaded.notes, *schedule_notes(loaded, total, order.steps_per_epoch)],
    )


def _largest_block(model: PreTrainedModel, recipe: Recipe) -> int:
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks(model)]
    return int(max(sizes, default=0) * _bytes_per_parameter(recipe))


def _bytes_per_parameter(recipe: Recipe) -> float:
    return _BYTES.get(recipe.model.quantization or recipe.model.dtype, 4.0)


def _memory(trained: Trained, recipe: Recipe, prepared: Prepared) -> MemoryEstimate | None:
    """Estimated peak of a training step over the longest rows; None where the model cannot run without data."""
    encoded = prepared.encoded["train"]
    rows = min(recipe.train.micro_batch_size or recipe.train.batch_size, len(encoded))
    lengths, labelled = {"inputs_embeds": int(encoded.lengths.max())}, 0
    if isinstance(encoded, EncodedTexts) and encoded.labels is not None:
        labelled = lengths["inputs_embeds"] if recipe.train.packing else int(encoded.labels.max())
        if prepared.task.kind.encoder_decoder:
            lengths = {"inputs_embeds": int(encoded.prompt_lengths.max()), "decoder_inputs_embeds": labelled}
    try:
        return estimate_memory(trained.model, trained.counts, _bytes_per_parameter(recipe), rows, lengths, labelled)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None


def _export_obstacle(model: PreTrainedModel) -> str | None:
    lacking = [
        path
        for path, vectors in edits(model)
        if vectors.bias is not None and getattr(model.get_submodule(path), "bias", None) is None
    ]
    try:
        find_home(model.config.model_type, model.config.to_dict(), lacking)
    except UserError as error:
        return error.message
    return None


def _examples(prepared: Prepared) -> list[Example]:
    encoded = prepared.encoded["train"]
    rows = [prepared.task.show(encoded, index) for index in range(min(_SHOWN_EXAMPLES, len(encoded)))]
    return [
        Example(
            tokens=[prepared.tokenizer.decode([token]) for token in row.ids],
            masked=row.masked,
            label=row.label,
            learnt=[place >= row.masked for place in range(len(row.ids))] if row.learnt is None else row.learnt,
        )
        for row in rows
    ]
