"""Steps whose numbers are read late, as on a GPU: a run is the same, and so are its errors and its stops."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from red_cli.distributed.step_numbers import StepNumbers, StepResult
from red_cli.train import loop as train_module
from red_cli.train import step_reports
from red_cli.train.collate_ahead import StepBatches
from red_cli.train.session import Session
from tests.conftest import Outcome
from tests.reads import counted_reads
from tests.tiny import read_lines
from tests.train.started import adapter_bytes
from tests.train.test_resume import training_log


@pytest.fixture
def whole(finished_once: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A run whose steps are read at once."""
    return Path(shutil.copytree(finished_once[0], tmp_path / "whole"))


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_reports, "reads_later", lambda device: True)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to steps, in order: "launch", "read"."""
    found, real_step, real_read = [], train_module.optimizer_step, StepNumbers.read

    def step(session: Session, batches: StepBatches) -> StepNumbers:
        found.append("launch")
        return real_step(session, batches)

    def read(numbers: StepNumbers) -> StepResult:
        found.append("read")
        return real_read(numbers)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    monkeypatch.setattr(StepNumbers, "read", read)
    return found


def test_a_run_is_the_same(
    red: Callable, recipe: Path, tmp_path: Path, whole: Path, late: None, events: list[str]
) -> None:
    """Evaluations come after steps 6 and 12, and wait for all steps before them."""
    assert red("train", recipe).code == 0
    epoch = ["launch", *["launch", "read"] * 5, "read"]
    assert events == epoch * 2
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(whole)
    assert training_log(tmp_path / "run") == training_log(whole)


@pytest.mark.parametrize("stop_after", [1, 5, 6])
def test_a_signal_stops_after_its_step(
    red: Callable,
    recipe: Path,
    tmp_path: Path,
    whole: Path,
    late: None,
    events: list[str],
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    real_step = train_module.optimizer_step

    def step(session: Session, batches: StepBatches) -> StepNumbers:
        if session.state.step + 1 == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, batches)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", recipe).code == 130
    assert events.count("launch") == events.count("read") == stop_after
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    assert red("train", recipe).code == 0
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(whole)
    assert training_log(tmp_path / "run") == training_log(whole)


def test_a_step_that_is_not_finite_is_named(
    red: Callable, recipe: Path, tmp_path: Path, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step after it is already launched; the message and the log are those of a run that reads at once."""
    keys = ["train.learning_rate=1e25", "train.max_grad_norm=null", "train.eval_steps=100", "eval.untuned=false"]
    found = []
    for reads_later in (False, True):
        monkeypatch.setattr(step_reports, "reads_later", lambda device, late=reads_later: late)
        run = tmp_path / str(reads_later)
        events.clear()
        assert red("train", recipe, *keys, f"output.dir={run}").code == 1
        last = read_lines(run / "log.jsonl")[-1]
        assert events.count("read") == last["step"] == events.count("launch") - reads_later
        found.append((last["step"], last["not_finite"], last["rows"]))
    assert found[0] == found[1]


def test_a_step_reads_nothing_until_its_numbers_are_read(
    red: Callable, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Micro-batches of one row are never padded, so that the model looks at no mask either."""
    real_step, real_read, me = train_module.optimizer_step, StepNumbers.read, threading.get_ident()
    launching, reading = [], []

    def step(session: Session, batches: StepBatches) -> StepNumbers:
        before = reads[me]
        numbers = real_step(session, batches)
        launching.append(reads[me] - before)
        return numbers

    def read(numbers: StepNumbers) -> StepResult:
        before = reads[me]
        result = real_read(numbers)
        reading.append(reads[me] - before)
        return result

    monkeypatch.setattr(train_module, "optimizer_step", step)
    monkeypatch.setattr(StepNumbers, "read", read)
    with counted_reads(monkeypatch) as reads:
        assert red("train", recipe, "train.micro_batch_size=1", "train.max_steps=3", "train.eval_steps=3").code == 0
    assert (launching, reading) == ([0] * 3, [1] * 3)
