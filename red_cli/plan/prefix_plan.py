"""Plan the cache of a frozen prefix: the layers it saves, its size on disk, and what stands against it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from red_cli.base_model.prepare import uses_bf16
from red_cli.edit.frozen_prefix import dropout_in_prefix, frozen_prefix
from red_cli.edit.model_kinds import ModelKind
from red_cli.formatting import byte_size
from red_cli.methods.method import Trained
from red_cli.plan.prepare import Prepared
from red_cli.plan.strategy import StrategyChoice
from red_cli.recipe.load import LoadedRecipe
from red_cli.tasks.base import Encoded
from red_cli.tasks.text.encoded_texts import EncodedTexts
from red_cli.tasks.text.task import OF_LOSSES

KEY = "train.cache_prefix"
_LEFT_FREE = 2**30  # bytes of the disk, for checkpoints and others
_FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class PrefixPlan:
    """The plan of a cache of hidden states.

    Attributes:
        layers: how many layers the frozen prefix has.
        size: bytes on disk; in mixed precision at most.
        obstacle: why there is no cache; None if there is one.
    """

    layers: int
    size: int
    obstacle: str | None


def plan_prefix(
    loaded: LoadedRecipe, prepared: Prepared, trained: Trained, total: int, per_epoch: int, strategy: StrategyChoice
) -> PrefixPlan | None:
    """Plan the cache for a run of `total` steps; None if the recipe asks for none."""
    recipe = loaded.recipe
    if not recipe.train.cache_prefix:
        return None
    model = trained.model
    prefix = frozen_prefix(model)
    tokens = sum(int(prefix_offsets(each, prepared.task.kind)[-1]) for each in cached_splits(prepared))
    itemsize = max(_FLOAT32, model.dtype.itemsize) if uses_bf16(recipe.train) else model.dtype.itemsize
    size = tokens * model.config.get_text_config().hidden_size * itemsize
    free = free_space(loaded.run_folder)
    obstacle = None
    if strategy.strategy not in ("single", "ddp"):
        obstacle = f"launch.strategy is {strategy.strategy}; it needs single or ddp"
    elif recipe.launch.num_machines > 1:
        obstacle = "it needs a single machine"
    elif not prefix:
        obstacle = "parameters train in the first layer; red.layers can leave the first ones out"
    elif recipe.model.quantization == "int8":
        obstacle = "in 8 bits, hidden states depend on the other rows of a batch"
    elif (path := dropout_in_prefix(model, prefix)) is not None:
        obstacle = f"{path} has dropout; model.dropout=0 turns it off"
    elif total <= per_epoch:
        obstacle = "no row is seen twice"
    elif size + _LEFT_FREE > free:
        obstacle = f"it takes {byte_size(size)}, and {byte_size(free)} are free in {loaded.run_folder}"
    return PrefixPlan(len(prefix), size, obstacle)


def no_effect(obstacle: str) -> str:
    """The line that says why a recipe that asks for the cache has none."""
    return f"{KEY} has no effect: {obstacle}"


def cached_splits(prepared: Prepared) -> list[Encoded]:
    """The rows that several passes read: those of training, and those of evaluations if passes score them."""
    selection, task = prepared.selection, prepared.task
    scored = not isinstance(selection, EncodedTexts) or {task.metric, *task.metrics} & {*OF_LOSSES}
    return [prepared.encoded["train"], *([selection] if scored else [])]


def prefix_offsets(encoded: Encoded, kind: ModelKind) -> NDArray[np.int64]:
    """The offsets of rows by the tokens that enter the first layers, (rows + 1,): a prompt's for an encoder-decoder."""
    if kind.encoder_decoder and isinstance(encoded, EncodedTexts):
        return np.concatenate([[0], np.cumsum(encoded.prompt_lengths)]).astype(np.int64)
    return encoded.offsets


def free_space(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free
