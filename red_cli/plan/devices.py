"""Estimate, from the configuration alone, on how many devices a recipe fits, by which strategy, at what traffic."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from red_cli.distributed.device import USABLE_SHARE
from red_cli.plan.memory import GATHERED_BLOCKS, MemoryEstimate
from red_cli.plan.plan import PlanSummary
from red_cli.recipe.schema import Recipe

DEVICES = (1, 2, 4, 8)
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class DeviceOption:
    """The strategy, memory and traffic of a recipe on `devices` devices.

    Attributes:
        strategy: the first that fits of: single or ddp, zero3, zero3 with offload; None if nothing fits.
        memory: peak bytes per device in a step with `rows` rows in a micro-batch.
        sent: bytes that each rank sends per optimiser step; the factor (n - 1) / n of a ring is taken as 1.
    """

    devices: int
    strategy: str | None
    memory: int
    rows: int
    sent: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def device_options(plan: PlanSummary, recipe: Recipe, device_bytes: int) -> list[DeviceOption]:
    """The options on 1, 2, 4 and 8 devices of `device_bytes` each; empty if the memory cannot be estimated."""
    if plan.memory is None:
        return []
    return [_device_option(plan, plan.memory, recipe, device_bytes, devices) for devices in DEVICES]


def _device_option(
    plan: PlanSummary, memory: MemoryEstimate, recipe: Recipe, device_bytes: int, devices: int
) -> DeviceOption:
    """The first strategy by which a recipe fits on this many devices, or None, with its memory and traffic."""
    rows = recipe.train.micro_batch_size or 1
    unsharded = memory.of_rows(rows) - memory.libraries
    around = unsharded - memory.base  # activations and trainable parameters; no strategy shards them
    vectors = 2 * (plan.counts.edited + plan.counts.head) * _FLOAT_BYTES if devices > 1 else 0  # reduce and broadcast
    passes = math.ceil(recipe.train.batch_size / (devices * rows))
    fetched = passes * 2 * memory.base  # for the forward and for the backward pass
    sharded = around + memory.base // devices + GATHERED_BLOCKS * plan.largest_block
    offloaded = around + GATHERED_BLOCKS * plan.largest_block
    ways: list[tuple[str, int, int]] = [("single" if devices == 1 else "ddp", unsharded, vectors)]
    if recipe.model.quantization is None:
        if devices > 1:
            ways.append(("zero3", sharded, fetched + vectors))
        ways.append(("zero3 with offload", offloaded, (fetched if devices > 1 else 0) + vectors))
    usable = int(device_bytes * USABLE_SHARE)
    for strategy, needed, sent in ways:
        if needed <= usable:
            return DeviceOption(devices, strategy, needed, rows, sent)
    _, least, sent = min(ways, key=lambda way: way[1])
    return DeviceOption(devices, None, least, rows, sent)
