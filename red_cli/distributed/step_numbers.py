"""The numbers of an optimiser step, which stay on the device until the host reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from red_cli.distributed.device import read_later


class NotFinite(Exception):
    """The engine's error for a loss or a gradient that is not finite; the message says which."""


@dataclass(frozen=True)
class OwnShare:
    """What a rank brings to an optimiser step besides its gradients.

    Attributes:
        loss: the sum of the losses of its rows, divided by `Engine.divisor`; a scalar, float32.
        weight: the number of its labelled items, or the sum of their class weights.
        stop: whether it was asked to stop.
    """

    loss: Tensor
    weight: float
    stop: bool = False


@dataclass(frozen=True)
class StepResult:
    """The numbers of a step, read.

    Attributes:
        loss: the mean over the labelled items of all ranks.
        gradient_norm: before clipping.
        stop: whether a rank was asked to stop when it took the step.
    """

    loss: float
    gradient_norm: float
    stop: bool


class StepNumbers:
    """Loss, gradient norm and stop flag of a step; their copy to the host starts at once.

    Attributes:
        not_finite: a scalar on the device, float32: 1 if the loss or the norm is not finite, else 0.

    Args:
        loss, gradient_norm, stop: scalars; `stop` counts the ranks that were asked to stop.
    """

    def __init__(self, loss: Tensor, gradient_norm: Tensor, stop: Tensor) -> None:
        stacked = torch.stack([number.detach().to(loss) for number in (loss, gradient_norm, stop)])
        self.not_finite = (~stacked.isfinite().all()).float()
        self._read = read_later(stacked)

    def read(self) -> StepResult:
        """Wait for the numbers; what was given to the device after them is not waited for.

        Raises:
            NotFinite: the loss or the norm is not finite.
        """
        loss, norm, stop = self._read()
        for what, number in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(number):
                raise NotFinite(f"{what} {number}")
        return StepResult(loss, norm, stop > 0)
