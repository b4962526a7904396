"""One optimiser step."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from red_cli.run.session import Session, backward


class NotFinite(Exception):
    """The loss, or the gradient, is not finite; the message says which."""


def optimizer_step(session: Session, rows: NDArray[np.int64]) -> tuple[float, float]:
    """One step over the rows of a global batch.

    Nothing is changed where the loss, or the gradient, is not finite.

    Returns:
        The loss and the gradient's norm before clipping.

    Raises:
        NotFinite: one of them is not finite.
    """
    loss, gradient_norm = gradients(session, rows)
    session.optimizer.step()
    session.scheduler.step()
    session.optimizer.zero_grad()
    return loss, gradient_norm


def gradients(session: Session, rows: NDArray[np.int64]) -> tuple[float, float]:
    """Put the clipped gradients of a global batch on what trains; the same results and errors as a whole step.

    The loss is the mean over the step's labelled items, however it is cut into micro-batches.
    """
    accelerator = session.accelerator
    batches = [batch.to(accelerator.device) for batch in session.batches(rows)]
    weight = sum(batch.weight for batch in batches)
    losses = []
    for number, batch in enumerate(batches, start=1):
        if number < len(batches):
            with accelerator.no_sync(session.wrapped):
                losses.append(backward(session, batch, weight))
        else:
            losses.append(backward(session, batch, weight))
    trained = [parameter for group in session.optimizer.param_groups for parameter in group["params"]]
    limit = session.settings.max_grad_norm
    norm = accelerator.clip_grad_norm_(trained, math.inf if limit is None else limit)
    loss, gradient_norm = float(sum(losses)), float(norm)
    if not math.isfinite(loss) or not math.isfinite(gradient_norm):
        raise NotFinite(f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {gradient_norm}")
    return loss, gradient_norm
