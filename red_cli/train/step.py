"""One optimiser step."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from red_cli.distributed.engine import NotFinite
from red_cli.train.session import Session


def optimizer_step(session: Session, rows: NDArray[np.int64]) -> tuple[float, float]:
    """Take one optimiser step over the rows of a global batch. A loss that is not finite changes nothing.

    Returns:
        The loss, and the gradient norm before clipping.

    Raises:
        NotFinite: the loss or the norm is not finite.
    """
    loss = accumulate(session, rows)
    norm = session.engine.step(session.settings.max_grad_norm)
    session.optimisation.scheduler.step()
    return loss, norm


def accumulate(session: Session, rows: NDArray[np.int64]) -> float:
    """Accumulate the gradients of this rank's share of a global batch; returns the loss of the full batch.

    The loss is the mean over all labelled items of the step, independent of ranks and micro-batches.

    Raises:
        NotFinite: the loss is not finite.
    """
    encoder, engine, processes = session.prepared.encoder, session.engine, session.processes
    encoded = session.prepared.encoded["train"]
    pieces = session.micro_batches(rows)
    batches = [session.collate(piece).to(processes.device) for piece in pieces]
    own = sum(batch.weight for batch, piece in zip(batches, pieces, strict=True) if not piece.is_dummy)
    weight = processes.all_reduce_sum(own)
    losses = []
    for number, (batch, piece) in enumerate(zip(batches, pieces, strict=True), start=1):
        engine.set_accumulation_boundary(last=number == len(batches))
        with session.runtime.skipping_prefix(encoded, piece.rows_by_sequence):
            loss = encoder.loss(engine.model, batch) / weight
        engine.backward(loss * 0.0 if piece.is_dummy else loss)
        if not piece.is_dummy:
            losses.append(loss.detach())
    loss_of_all = processes.all_reduce_sum(float(sum(losses)))
    if not math.isfinite(loss_of_all):
        raise NotFinite(f"loss {loss_of_all}")
    return loss_of_all
