"""The learning-rate schedules are those of transformers, bit for bit."""

from __future__ import annotations

import warnings
from typing import get_args

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from red_cli.recipe.train_section import SchedulerName
from red_cli.train.learning_rate_schedules import build_scheduler

# steps to warm up, steps in all
LENGTHS = ((0, 1), (0, 7), (3, 10), (1, 1000), (60, 1000), (7, 7))


def optimizer() -> torch.optim.AdamW:
    """Groups with rates of their own, as recipes make them; the optimiser's default rate is not theirs."""
    return torch.optim.AdamW([{"params": [torch.zeros(1)], "lr": rate} for rate in (0.06, 5e-5, 1 / 3)])


def rates(scheduler: LRScheduler, steps: int) -> list[list[float]]:
    """The rates of each group at each step and beyond the last, as far as they are defined."""
    found = [scheduler.get_last_lr()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimiser takes no steps
        for _ in range(steps + 2):
            try:
                scheduler.step()
            except ZeroDivisionError:  # transformers' polynomial without steps after its warm-up
                break
            found.append(scheduler.get_last_lr())
    return found


@pytest.mark.parametrize("name", get_args(SchedulerName))
def test_rates_are_those_of_transformers(name: SchedulerName) -> None:
    for warmup, total in LENGTHS:
        expected = rates(get_scheduler(name, optimizer(), warmup, total), total)
        found = rates(build_scheduler(optimizer(), name, warmup, total), total)
        assert len(found) == total + 3
        assert found[: len(expected)] == expected, (warmup, total)


@pytest.mark.parametrize("name", get_args(SchedulerName))
def test_a_checkpoint_of_transformers_schedule_resumes(name: SchedulerName) -> None:
    old, new = get_scheduler(name, optimizer(), 2, 9), build_scheduler(optimizer(), name, 2, 9)
    rates(old, 3)
    new.load_state_dict(old.state_dict())
    assert rates(new, 2)[1:] == rates(old, 2)[1:]
