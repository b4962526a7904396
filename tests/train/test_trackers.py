"""Trackers: their files lie in the run folder, and a resumed run continues the tracked one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from red_cli.runs.folder import RunFolder
from red_cli.train import trackers as module
from red_cli.train.trackers import Trackers
from tests.extras import needs_extra

NAMES = ["tensorboard", "wandb", "mlflow", "trackio"]
VARIABLES = ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_DIR", "WANDB_PROJECT", "WANDB_QUIET", "MLFLOW_TRACKING_URI",
             "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_LOGGING_LEVEL", "TRACKIO_DIR")  # fmt: skip


class FakeAccelerator:
    """Keeps what trackers are started with."""

    def __init__(self) -> None:
        self.project, self.config, self.options = "", {}, {}
        self.ended = 0

    def init_trackers(self, project: str, config: Any, init_kwargs: dict[str, Any]) -> None:
        self.project, self.config, self.options = project, config, init_kwargs
        print("started")

    def get_tracker(self, name: str, unwrap: bool) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="m1"))

    def end_training(self) -> None:
        self.ended += 1


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of a tracker is set, and none stays."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
        del os.environ[variable]
    monkeypatch.setattr(module, "_placed", {})


def start(folder: Path, step: int, names: list[str] = NAMES) -> FakeAccelerator:
    folder.mkdir(exist_ok=True)
    accelerator: Any = FakeAccelerator()
    with Trackers(accelerator, names, RunFolder(folder), pytest.fail) as trackers:
        trackers.start({"seed": 1}, step)
        trackers.end()
    assert accelerator.ended == 1
    return accelerator


def test_files_lie_in_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in (tmp_path / "one", tmp_path / "two"):  # of one process
        found, place = start(run, 0, ["mlflow", "trackio", "tensorboard"]), run / "trackers"
        assert capsys.readouterr().out == ""
        assert (found.project, found.config) == ("red", {"seed": 1})
        assert found.options["mlflow"] == {"run_name": run.name, "logging_dir": (place / "mlflow-artifacts").as_uri()}
        assert found.options["trackio"] == {"name": run.name, "resume": "never"}
        assert found.options["tensorboard"] == {}
        assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{place}/mlflow.db"
        assert os.environ["TRACKIO_DIR"] == str(place / "trackio")
        wandb = start(run, 0).options["wandb"]
        assert wandb == {"name": run.name, "dir": str(place), "id": wandb["id"]}
        assert os.environ["WANDB_CACHE_DIR"].startswith(str(place))
        capsys.readouterr()


def test_a_resumed_run_continues_the_tracked_one(tmp_path: Path) -> None:
    first = start(tmp_path / "run", 0)
    found = start(tmp_path / "run", 5)
    assert found.config is None
    assert found.options["wandb"] == {**first.options["wandb"], "resume": "allow"}
    assert found.options["mlflow"]["run_id"] == "m1"
    assert found.options["trackio"]["resume"] == "allow"
    assert found.options["tensorboard"] == {"purge_step": 6}
    again = start(tmp_path / "run", 0)  # from the beginning
    assert again.options["wandb"]["id"] != first.options["wandb"]["id"]
    assert "run_id" not in again.options["mlflow"]


def test_a_users_own_places_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"WANDB_DIR": "w", "MLFLOW_TRACKING_URI": "http://m", "TRACKIO_DIR": "t", "WANDB_PROJECT": "mine"}
    for variable, value in own.items():
        monkeypatch.setenv(variable, value)
    found = start(tmp_path / "run", 0)
    assert {variable: os.environ[variable] for variable in own} == own
    assert found.project == "mine"
    assert "dir" not in found.options["wandb"]
    assert "logging_dir" not in found.options["mlflow"]


def test_trackio_reads_its_place_once_and_ends_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: Any = SimpleNamespace(TRACKIO_DIR=Path("elsewhere"))
    ended: list[bool] = []
    monkeypatch.setitem(sys.modules, "trackio.utils", loaded)
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(finish=lambda: ended.append(True)))
    start(tmp_path / "run", 0)
    assert ended == [True]
    assert str(loaded.TRACKIO_DIR) == str(tmp_path / "run" / "trackers" / "trackio")


@pytest.mark.slow  # processes of their own, since each tracker patches what it finds
@pytest.mark.parametrize("name", [pytest.param(NAMES[0], marks=needs_extra("track")), *NAMES[1:]])
def test_offline_for_two_steps_and_resumed(recipe: Path, tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}")
    for folder in ("home", "here"):
        (tmp_path / folder).mkdir()
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "WANDB_MODE": "offline", "PYTHONPATH": paths}
    options = ["train.max_steps=2", "train.save_steps=1", f"train.report_to={name}", "--json"]
    command = [sys.executable, "-m", "red_cli", "train", str(recipe), *options]
    run = tmp_path / "run"
    for _ in range(2):
        done = subprocess.run(
            command, env=environment, cwd=tmp_path / "here", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"{name} failed" not in done.stderr
        assert json.loads(done.stdout)["training"]["steps"] == 2
        assert not list((tmp_path / "here").iterdir())
        assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
        (run / "metrics.json").unlink()  # as if it had been stopped after step 1
        for path in (run / "checkpoints" / "step-2").iterdir():
            path.unlink()
        assert len(list((run / "trackers").iterdir())) > 1
    assert len(json.loads((run / "trackers" / "runs.json").read_text())[name]) > 0
