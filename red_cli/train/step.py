"""One optimiser step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from red_cli.distributed.step_numbers import OwnShare, StepNumbers
from red_cli.train.session import Session


def optimizer_step(session: Session, rows: NDArray[np.int64]) -> StepNumbers:
    """Take one optimiser step over the rows of a global batch. A loss or norm that is not finite changes nothing.

    Returns:
        The loss and the gradient norm before clipping, to be read; the device may still compute them.
    """
    numbers = session.engine.step(session.settings.max_grad_norm, accumulate(session, rows))
    session.optimisation.scheduler.step()
    return numbers


def accumulate(session: Session, rows: NDArray[np.int64]) -> OwnShare:
    """Accumulate the gradients of this rank's share of a global batch.

    After the engine's reduction they are those of the mean over all labelled items of the step, independent of ranks
    and micro-batches.
    """
    encoder, engine, device = session.prepared.encoder, session.engine, session.processes.device
    encoded = session.prepared.encoded["train"]
    pieces = session.micro_batches(rows)
    batches = [session.collate(piece).to(device) for piece in pieces]
    weight = sum(batch.weight for batch, piece in zip(batches, pieces, strict=True) if not piece.is_dummy)
    divisor = engine.divisor(weight)
    losses = torch.zeros((), device=device)
    for number, (batch, piece) in enumerate(zip(batches, pieces, strict=True), start=1):
        engine.set_accumulation_boundary(last=number == len(batches))
        with session.runtime.skipping_prefix(encoded, piece.rows_by_sequence):
            loss = encoder.loss(engine.model, batch) / divisor
        engine.backward(loss * 0.0 if piece.is_dummy else loss)
        if not piece.is_dummy:
            losses += loss.detach()
    return OwnShare(losses, weight, session.stop.requested)
