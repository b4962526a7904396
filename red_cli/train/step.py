"""One optimiser step."""

from __future__ import annotations

import torch

from red_cli.distributed.step_numbers import OwnShare, StepNumbers
from red_cli.train.collate_ahead import StepBatches
from red_cli.train.session import Session


def optimizer_step(session: Session, step: StepBatches) -> StepNumbers:
    """Take one optimiser step over a global batch. A loss or norm that is not finite changes nothing.

    Returns:
        The loss and the gradient norm before clipping, to be read; the device may still compute them.
    """
    numbers = session.engine.step(session.settings.max_grad_norm, accumulate(session, step))
    session.optimisation.scheduler.step()
    return numbers


def accumulate(session: Session, step: StepBatches) -> OwnShare:
    """Accumulate the gradients of this rank's share of a global batch.

    After the engine's reduction they are those of the mean over all labelled items of the step, independent of ranks
    and micro-batches.

    Returns:
        What this rank brings to the reduction besides the gradients.
    """
    encoder, engine, device = session.prepared.encoder, session.engine, session.processes.device
    encoded = session.prepared.encoded["train"]
    batches = [(micro_batch, batch.to(device)) for micro_batch, batch in step.micro_batches]
    divisor = engine.divisor(step.weight)
    losses = torch.zeros((), device=device)
    for number, (micro_batch, batch) in enumerate(batches, start=1):
        engine.set_accumulation_boundary(last=number == len(batches))
        with session.runtime.skipping_prefix(encoded, micro_batch.rows_by_sequence):
            loss = encoder.loss(engine.model, batch) / divisor
        engine.backward(loss * 0.0 if micro_batch.is_dummy else loss)
        if not micro_batch.is_dummy:
            losses += loss.detach()
    return OwnShare(losses, step.weight, session.stop.requested)
