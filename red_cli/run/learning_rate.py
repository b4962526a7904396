"""`learning_rate: auto`: a short search before the run, by successive halving over short runs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from red_cli.errors import RunFailed
from red_cli.recipe.load import Loaded
from red_cli.run.batches import Order, cut
from red_cli.run.events import Listener
from red_cli.run.optimizer import build_optimizer, build_scheduler
from red_cli.run.plan import Plan, Prepared
from red_cli.run.search_plan import plan_search
from red_cli.run.search_record import LearningRateSearch, Trial, with_rate
from red_cli.run.session import Session, set_up
from red_cli.run.step import NotFinite, optimizer_step

_HELD_OUT = 256  # training rows that the short runs are judged by, at most a fifth of all
_WARMUP = 0.1


def search_learning_rate(loaded: Loaded, prepared: Prepared, plan: Plan, listener: Listener) -> LearningRateSearch:
    """Find a learning rate for the run; the run itself starts anew afterwards, as if the rate had been given.

    Each short run has the run's own batch size and a whole schedule of its own, with a warm-up and a linear decay, and
    is judged by its loss on training rows that were held out. Rates that diverge are dropped. The same seed finds the
    same rate; validation and test splits are not looked at.

    Raises:
        RunFailed: every rate diverged.
    """
    searching = plan_search(loaded.recipe, plan.total_steps)
    if not searching.rounds:
        return LearningRateSearch(searching.rates[0], 0, plan.total_steps, 0, [])
    session = set_up(with_rate(loaded, searching.rates[0]), prepared, plan, None, listener)
    rows = np.random.default_rng((session.settings.seed, _HELD_OUT)).permutation(session.order.rows)
    size = min(_HELD_OUT, len(rows) // 5)
    held_out, used = np.sort(rows[:size]), np.sort(rows[size:])
    start = {name: session.model.get_parameter(name).detach().clone() for name in session.trained.names}
    trials: list[Trial] = []
    rates, done = searching.rates, 0
    for part in searching.rounds:
        losses: dict[float, float] = {}
        for rate in rates[: part.rates]:
            _put_back(session, start)
            listener.searching(done, searching.steps, rate)
            loss = _try_rate(session, rate, part.steps, used, held_out)
            done += part.steps
            trials.append(Trial(rate, part.steps, loss))
            if loss is not None:
                losses[rate] = loss
        if not losses:
            raise RunFailed(
                f"every learning rate from {rates[0]:g} to {rates[-1]:g} diverged",
                hint="Look at the data, or give a lower train.learning_rate.",
            )
        rates = sorted(losses, key=losses.__getitem__)
    listener.searched(rates[0], [(trial.rate, trial.loss) for trial in trials])
    return LearningRateSearch(rates[0], done, plan.total_steps, size, trials)


def _put_back(session: Session, start: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in start.items():
            parameter = session.model.get_parameter(name)
            parameter.copy_(value)
            parameter.grad = None


def _try_rate(
    session: Session, rate: float, steps: int, used: NDArray[np.int64], held_out: NDArray[np.int64]
) -> float | None:
    """The loss on `held_out` after `steps` steps over the rows `used`; None where it is not finite."""
    settings = session.settings.model_copy(
        update={"learning_rate": rate, "lr_scheduler_type": "linear", "warmup_ratio": _WARMUP, "warmup_steps": None}
    )
    optimizer = build_optimizer(session.trained, settings)
    trial = replace(session, optimizer=optimizer, scheduler=build_scheduler(optimizer, settings, steps))
    torch.manual_seed(settings.seed)
    session.wrapped.train()
    order = Order(len(used), settings.batch_size, settings.seed)
    try:
        for _, rows in zip(range(steps), order.from_step(0), strict=False):
            optimizer_step(trial, used[rows])
    except NotFinite:
        return None
    loss = _mean_loss(session, held_out)
    return loss if math.isfinite(loss) else None


@torch.inference_mode()
def _mean_loss(session: Session, rows: NDArray[np.int64]) -> float:
    encoded, task = session.prepared.encoded["train"], session.prepared.task
    ordered = rows[np.argsort(-encoded.lengths[rows], kind="stable")]
    session.wrapped.eval()
    batches = [
        task.collate(encoded, piece).to(session.accelerator.device)
        for piece in cut(ordered, session.state.micro_batch_size)
    ]
    total = sum(float(task.loss(session.wrapped, batch)) for batch in batches)
    return total / sum(batch.weight for batch in batches)
