"""Learning-rate schedules, with the values of transformers' schedules of the same names.

transformers' own module imports the Trainer's utilities, and with them PEFT and bitsandbytes where they are installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from red_cli.recipe.train_section import SchedulerName

_INVERSE_SQRT_STEPS = 10_000  # the time scale of inverse_sqrt without warm-up
# polynomial ends at transformers' default, as a share of AdamW's default rate; the recipe's rates are of the groups
_POLYNOMIAL_START, _POLYNOMIAL_END = 1e-3, 1e-7


def build_scheduler(optimizer: Optimizer, name: SchedulerName, warmup_steps: int, total_steps: int) -> LambdaLR:
    """The learning-rate scheduler `name`; it steps once per optimiser step."""
    return LambdaLR(optimizer, partial(_SCHEDULES[name], warmup_steps, total_steps))


def _constant(warmup: int, total: int, step: int) -> float:
    """The factor of the learning rate at a step of the schedule `constant`, which has no warm-up."""
    return 1.0


def _warmed_up(decay: Callable[[int, int, int], float], warmup: int, total: int, step: int) -> float:
    """The factor of the learning rate at a step: linear up to `warmup`, then that of `decay`."""
    return step / warmup if step < warmup else decay(warmup, total, step)


def _progress(warmup: int, total: int, step: int) -> float:
    """The share of the steps after the warm-up of a schedule that are done."""
    return (step - warmup) / max(1, total - warmup)


def _linear(warmup: int, total: int, step: int) -> float:
    """The factor of the schedule `linear` after its warm-up."""
    return max(0.0, (total - step) / max(1, total - warmup))


def _cosine(warmup: int, total: int, step: int) -> float:
    """The factor of the schedule `cosine` after its warm-up: half a wave, from 1 to 0."""
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * _progress(warmup, total, step))))


def _cosine_with_restarts(warmup: int, total: int, step: int) -> float:
    """The factor of the schedule `cosine_with_restarts` after its warm-up: one cycle, and 0 from its end on."""
    return _cosine(warmup, total, step) if _progress(warmup, total, step) < 1.0 else 0.0


def _polynomial(warmup: int, total: int, step: int) -> float:
    """The factor of the schedule `polynomial` after its warm-up: of degree 1, to a rate above 0."""
    remaining = max(0.0, 1 - _progress(warmup, total, step))
    return ((_POLYNOMIAL_START - _POLYNOMIAL_END) * remaining + _POLYNOMIAL_END) / _POLYNOMIAL_START


def _inverse_sqrt(warmup: int, total: int, step: int) -> float:
    """The factor of the schedule `inverse_sqrt` after its warm-up; the total does not matter."""
    scale = warmup or _INVERSE_SQRT_STEPS
    return 1.0 / math.sqrt((step + scale - warmup) / scale)


_SCHEDULES: dict[SchedulerName, Callable[[int, int, int], float]] = {
    "linear": partial(_warmed_up, _linear),
    "cosine": partial(_warmed_up, _cosine),
    "cosine_with_restarts": partial(_warmed_up, _cosine_with_restarts),
    "polynomial": partial(_warmed_up, _polynomial),
    "constant": _constant,
    "constant_with_warmup": partial(_warmed_up, _constant),
    "inverse_sqrt": partial(_warmed_up, _inverse_sqrt),
}
