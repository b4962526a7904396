"""`learning_rate: auto`: a learning-rate range test before the run."""

from __future__ import annotations

import gc
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from red_cli.base_model.prepare import without_dropout
from red_cli.distributed.engine import Replicated
from red_cli.distributed.process_group import Processes
from red_cli.distributed.step_numbers import NotFinite
from red_cli.plan.prepare import Prepared
from red_cli.plan.schedule import Schedule
from red_cli.plan.search_plan import SearchPlan
from red_cli.recipe.load import LoadedRecipe
from red_cli.train.events import TrainingListener
from red_cli.train.generators import seed_generators
from red_cli.train.learning_rate_record import LearningRateSearch, Sweep, with_rate
from red_cli.train.optimizer import build_optimizer
from red_cli.train.resources import Resources
from red_cli.train.session import Session
from red_cli.train.setup import build_session
from red_cli.train.step import accumulate

# The smoothed loss has diverged when it gave back this share of its improvement and rose by that share of its start.
_LOST_GAIN = 0.5
_RISE = 0.08
_LEAST_DISTANCE = 2.0  # the chosen rate is at least this factor below the divergence
_LEAST_FALL = 0.05  # a sweep counts only if its loss falls by this share of its start


def search_learning_rate(
    loaded: LoadedRecipe,
    prepared: Prepared,
    schedule: Schedule,
    listener: TrainingListener,
    processes: Processes,
    resources: Resources,
) -> LearningRateSearch:
    """Find a learning rate for the run. The run itself then starts from the beginning.

    In a sweep the rate rises by a constant factor per step until the training loss diverges: there the method becomes
    unstable on this base and these data, which shows long before the scores of short runs differ. A sweep repeats a
    few batches without dropout, because a loss that is mostly noise over a full split falls on few batches, and its
    rise stands out. The chosen rate is a factor below the divergence, within the method's range. The same seed finds
    the same rate. Validation and test splits are not used.
    """
    searching = schedule.search
    assert searching is not None
    if searching.sweeps == 0:
        return LearningRateSearch(searching.usual, 0, schedule.total_steps, [])
    # Without dropout the loss of a row depends on the parameters only.
    no_dropout = replace(prepared, base=replace(prepared.base, config=without_dropout(prepared.base.config)))
    usual = with_rate(loaded, searching.usual)
    session = build_session(usual, no_dropout, schedule, None, listener, processes, resources)
    start = {name: session.model.get_parameter(name).detach().clone() for name in session.trained.names}
    sweeps: list[Sweep] = []
    for number in range(searching.sweeps):
        _put_back(session, start)
        sweeps.append(_sweep(session, searching, number, listener))
    rate = choose_rate(sweeps, searching)
    listener.searched(rate, [sweep.edge for sweep in sweeps])
    resources.release(session.trained)
    inputs = session.inputs
    del session
    gc.collect()  # the run loads the base again
    return LearningRateSearch(rate, sum(len(sweep.losses) for sweep in sweeps), schedule.total_steps, sweeps, inputs)


def _put_back(session: Session, start: dict[str, torch.Tensor]) -> None:
    """Reset the trained parameters to their values before the search, and drop their gradients."""
    with torch.no_grad():
        for name, value in start.items():
            parameter = session.model.get_parameter(name)
            parameter.copy_(value)
            parameter.grad = None


def _sweep(session: Session, searching: SearchPlan, number: int, listener: TrainingListener) -> Sweep:
    """Train with rising learning rates until the loss diverges; return the rates, losses and edge."""
    settings, engine = session.settings, session.engine
    assert isinstance(engine, Replicated)  # recipes with another engine and a search are refused
    optimizer = build_optimizer(session.trained, session.recipe)
    seed_generators(settings.seed, session.processes)
    engine.model.train()
    batches = [session.collate_step(rows) for rows in session.schedule.sampler.epoch(number)[: searching.cycle]]
    # A separate learning rate of the head is not swept.
    swept = optimizer.param_groups if settings.head_learning_rate is None else optimizer.param_groups[:-1]
    rates: list[float] = []
    losses: list[float] = []
    for step, batch in zip(range(searching.steps), itertools.cycle(batches), strict=False):
        rate = searching.rate(step)
        listener.searching(number * searching.steps + step, searching.total, rate)
        for group in swept:
            group["lr"] = rate
        try:
            numbers = engine.reduce_and_clip_gradients(settings.max_grad_norm, accumulate(session, batch))
            loss = numbers.read().loss
        except NotFinite:
            return Sweep(rates, losses, rate)
        rates.append(rate)
        losses.append(loss)
        if edge := find_divergence_rate(rates, losses, len(batches)):
            return Sweep(rates, losses, edge)
        optimizer.step()
        optimizer.zero_grad()
    return Sweep(rates, losses, None)


def find_divergence_rate(rates: Sequence[float], losses: Sequence[float], window: int) -> float | None:
    """Search the rate at which the loss, averaged over `window` steps, diverges from its minimum."""
    if len(losses) < window:
        return None
    averages = _averages(losses, window)
    start, lowest = averages[0], np.minimum.accumulate(averages)
    away = np.flatnonzero(averages > lowest + np.maximum(_LOST_GAIN * (start - lowest), _RISE * start))
    return rates[int(away[0])] if len(away) else None


def choose_rate(sweeps: Sequence[Sweep], searching: SearchPlan) -> float:
    """Choose the learning rate: the median of the method's usual rate and of one vote per sweep.

    A sweep votes for its divergence rate divided by `searching.below_edge`. With an even number of votes the geometric
    mean of the middle two is taken. The divergence rate of one sweep varies more between seeds than the best rate
    does, so a single sweep moves the rate only halfway from the usual one; several that agree move it fully. A base
    that is far less stable than usual, such as a large one, still gets a rate well below the divergence. For a sweep
    without divergence the rate at its lowest loss counts instead; one whose loss did not fall either does not vote.
    """
    edges = [edge for sweep in sweeps if (edge := sweep.edge or _end_of_fall(sweep, searching.cycle)) is not None]
    if not edges:
        return searching.usual
    rate = _middle([searching.usual, *(edge / searching.below_edge for edge in edges)])
    rate = min(rate, _middle(edges) / _LEAST_DISTANCE)
    return float(f"{min(max(rate, searching.lowest), searching.most):.1e}")


def _middle(values: Sequence[float]) -> float:
    """The middle of learning rates in a range test: their median on a logarithmic scale."""
    return math.exp(statistics.median(math.log(value) for value in values))


def _end_of_fall(sweep: Sweep, window: int) -> float | None:
    """The rate at the lowest loss, or None if the loss did not fall."""
    averages = _averages(sweep.losses, window)
    lowest = int(averages.argmin())
    return sweep.rates[lowest] if averages[lowest] < averages[0] * (1 - _LEAST_FALL) else None


def _averages(losses: Sequence[float], window: int) -> NDArray[np.float64]:
    """The moving averages of a sweep's losses."""
    return np.convolve(losses, np.ones(window) / window, "valid")
