"""The next step is collated by a thread: one step ahead, in order, with its errors, and no longer than the steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from red_cli.plan.batches import RowIndices
from red_cli.train import loop as train_module
from red_cli.train.collate_ahead import StepBatches, collated_ahead
from red_cli.train.session import Session

STEPS = [np.array([step]) for step in range(5)]


def collating_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("collate")]


def test_steps_come_in_order_and_one_ahead() -> None:
    begun = []

    def collate(rows: RowIndices) -> StepBatches:
        begun.append(int(rows[0]))
        assert threading.current_thread() is not threading.main_thread()
        return StepBatches(rows, [])

    with collated_ahead(collate, iter(STEPS)) as steps:
        assert begun == []
        for number, step in enumerate(steps):
            assert step.rows is STEPS[number]
            assert begun[: number + 1] == list(range(number + 1))
            assert len(begun) <= number + 2
    assert begun == list(range(len(STEPS)))
    assert collating_threads() == []


def test_an_error_is_raised_where_its_step_is_taken() -> None:
    def collate(rows: RowIndices) -> StepBatches:
        if rows[0] == 2:
            raise ValueError("row 2")
        return StepBatches(rows, [])

    with collated_ahead(collate, STEPS) as steps:
        assert [int(next(steps).rows[0]) for _ in range(2)] == [0, 1]
        with pytest.raises(ValueError, match="row 2"):
            next(steps)
    assert collating_threads() == []


@pytest.mark.parametrize("ends", ["by itself", "by a signal", "by an error"])
def test_no_thread_outlives_a_run(
    red: Callable, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    real_step, real_collate = train_module.optimizer_step, Session.collate_step
    threads = set()

    def step(session: Session, batches: StepBatches) -> object:
        if ends == "by a signal":
            os.kill(os.getpid(), signal.SIGINT)
        if ends == "by an error":
            raise RuntimeError("a fault of the step")
        return real_step(session, batches)

    def collate_step(session: Session, rows: RowIndices) -> StepBatches:
        threads.add(threading.current_thread().name)
        return real_collate(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    monkeypatch.setattr(Session, "collate_step", collate_step)
    outcome = red("train", recipe, "train.max_steps=2", "train.eval_steps=2")
    assert outcome.code == {"by itself": 0, "by a signal": 130, "by an error": 1}[ends]
    assert threads
    assert all(name.startswith("collate") for name in threads)
    assert collating_threads() == []
