from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before any library reads it: no test may reach a network
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.tiny import make_base, make_data

torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-trajectories",
        action="store_true",
        help="record the cells of tests/run/test_trajectories.py again instead of comparing them (needs -n 0)",
    )


@dataclass
class Outcome:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def red(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `red` in this process, as its command line would."""
    from red_cli.cli import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["red", *(str(argument) for argument in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return Outcome(exit_.value.code or 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a tokenizer."""
    return make_base(tmp_path_factory.mktemp("base") / "bert")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split files of a two-label task."""
    return make_data(tmp_path_factory.mktemp("data") / "reviews")


@pytest.fixture
def recipe(tmp_path: Path, base: Path, data: Path) -> Path:
    """A recipe for the tiny base and data; runs go to the test's folder."""
    path = tmp_path / "reviews.yaml"
    path.write_text(
        f"""# Sentiment of tiny reviews. For tests.
task: {{name: classification}}
model: {{name_or_path: {base}}}
data: {{path: {data}}}
train:
  learning_rate: 1e-2
  num_train_epochs: 2
  batch_size: 16
  micro_batch_size: 16
  logging_steps: 1
output: {{dir: {tmp_path / "run"}}}
"""
    )
    return path


@pytest.fixture
def shared() -> Path:
    """The folder of published results and real data, where there is one."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder of published results and data sets ({SHARED})")
    return SHARED
