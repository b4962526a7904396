from __future__ import annotations

import os
import tempfile

# Before any library reads them, and for the processes that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach a network
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["OMP_NUM_THREADS"] = "1"  # workers share the cores
os.environ["RED_CACHE_DIR"] = f"{tempfile.gettempdir()}/red-tests-{os.getpid()}"  # tests' data are too small for it

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# torch and transformers are imported where they are needed: the process that hands tests to workers needs neither.

# The same examples each time, and few: a failure shows again where it is looked for
settings.register_profile(
    "few", derandomize=True, max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("few")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-trajectories",
        action="store_true",
        help="record the cells of tests/train/test_trajectories.py again instead of comparing them (needs -n 0)",
    )
    parser.addoption(
        "--record-screens",
        action="store_true",
        help="record the texts of tests/test_screens.py again instead of comparing them (needs -n 0)",
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


def run_red(*arguments: object) -> Outcome:
    """Run `red` in this process, for fixtures that outlast a test."""
    from red_cli.cli import main

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.setattr(sys, "argv", ["red", *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
    return Outcome(exit_.value.code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a tokenizer."""
    from tests.tiny import make_base

    return make_base(tmp_path_factory.mktemp("base") / "bert")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split files of a two-label task."""
    from tests.tiny import make_data

    return make_data(tmp_path_factory.mktemp("data") / "reviews")


def write_recipe(folder: Path, base: Path, data: Path) -> Path:
    path = folder / "reviews.yaml"
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
eval: {{metric: accuracy}}
output: {{dir: {folder / "run"}}}
"""
    )
    return path


@pytest.fixture
def recipe(tmp_path: Path, base: Path, data: Path) -> Path:
    """A recipe for the tiny base and data; runs go to the test's folder."""
    return write_recipe(tmp_path, base, data)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, base: Path, data: Path) -> tuple[Path, Outcome]:
    """The folder of `recipe`'s run, which no test may change, and what the command left."""
    recipe = write_recipe(tmp_path_factory.mktemp("finished"), base, data)
    outcome = run_red("train", recipe)
    assert outcome.code == 0, outcome.err
    return recipe.parent / "run", outcome


@pytest.fixture
def finished(finished_once: tuple[Path, Outcome], recipe: Path) -> Path:
    """What `red train` with `recipe` leaves, in the recipe's own folder: a copy, so that it trains but once."""
    original, run = finished_once[0], recipe.parent / "run"
    shutil.copytree(original, run)
    for path in (run / "recipe.yaml", run / "README.md", run / "metrics.json"):
        path.write_text(path.read_text().replace(str(original), str(run)))
    return run


@pytest.fixture
def shared() -> Path:
    """The folder of published results and real data, where there is one."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder of published results and data sets ({SHARED})")
    return SHARED
