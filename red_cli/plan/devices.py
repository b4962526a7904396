"""On how many devices a recipe fits, by which strategy, and what that costs: from the configuration alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from red_cli.plan.memory import MemoryEstimate
from red_cli.plan.plan import PlanSummary
from red_cli.plan.strategy import USABLE_SHARE
from red_cli.recipe.schema import Recipe

DEVICES = (1, 2, 4, 8)
_FLOAT_BYTES = 4
_BLOCKS_AT_ONCE = 2  # of a spread base: the one that computes, and the next, fetched meanwhile


@dataclass(frozen=True)
class DeviceOption:
    """A recipe on some devices.

    Attributes:
        strategy: the first that fits of single or ddp, zero3, zero3 with offload; None if none fits.
        memory: bytes on each device at the peak of a step with `rows` rows in a micro-batch.
        sent: bytes that each rank sends in an optimiser step; the (n - 1) / n of a ring counts as 1.
    """

    devices: int
    strategy: str | None
    memory: int
    rows: int
    sent: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def device_options(plan: PlanSummary, recipe: Recipe, device_bytes: int) -> list[DeviceOption]:
    """What fits on 1, 2, 4 and 8 devices of `room` bytes; nothing where the model cannot be estimated."""
    if plan.memory is None:
        return []
    return [_device_option(plan, plan.memory, recipe, device_bytes, devices) for devices in DEVICES]


def _device_option(
    plan: PlanSummary, memory: MemoryEstimate, recipe: Recipe, device_bytes: int, devices: int
) -> DeviceOption:
    rows = recipe.train.micro_batch_size or 1
    unsharded = memory.of_rows(rows) - memory.libraries
    around = unsharded - memory.base  # activations and trainable parameters, which no strategy shards
    vectors = 2 * (plan.counts.edited + plan.counts.head) * _FLOAT_BYTES if devices > 1 else 0  # there and back again
    passes = math.ceil(recipe.train.batch_size / (devices * rows))
    fetched = passes * 2 * memory.base  # forwards, and again backwards
    spread = around + memory.base // devices + _BLOCKS_AT_ONCE * plan.largest_block
    offloaded = around + _BLOCKS_AT_ONCE * plan.largest_block
    ways: list[tuple[str, int, int]] = [("single" if devices == 1 else "ddp", unsharded, vectors)]
    if recipe.model.quantization is None:
        if devices > 1:
            ways.append(("zero3", spread, fetched + vectors))
        ways.append(("zero3 with offload", offloaded, (fetched if devices > 1 else 0) + vectors))
    usable = int(device_bytes * USABLE_SHARE)
    for strategy, needed, sent in ways:
        if needed <= usable:
            return DeviceOption(devices, strategy, needed, rows, sent)
    _, least, sent = min(ways, key=lambda way: way[1])
    return DeviceOption(devices, None, least, rows, sent)
