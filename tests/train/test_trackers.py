"""Trackers: their files lie in the run folder, and a resumed run continues the tracked one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from red_cli.errors import UserError
from red_cli.runs.folder import RunFolder
from red_cli.train import trackers as module
from red_cli.train.trackers import Trackers
from tests.extras import needs_extra

NAMES = ["tensorboard", "wandb", "mlflow", "trackio"]
VARIABLES = ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_DIR", "WANDB_PROJECT", "WANDB_QUIET", "MLFLOW_TRACKING_URI",
             "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_LOGGING_LEVEL", "TRACKIO_DIR")  # fmt: skip


@dataclass
class Found:
    """What fake trackers are started with, and what they are asked for afterwards."""

    projects: set[str] = field(default_factory=set)
    configured: dict[str, Any] = field(default_factory=dict)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def kind(self, name: str, fails_at: str = "") -> Any:
        """A class that does as Accelerate's for this tracker, and may fail."""

        found = self

        def attempt(what: str) -> None:
            print(what)
            if what == fails_at:
                raise RuntimeError(what)

        class Tracker:
            requires_logging_directory = name == "tensorboard"
            tracker = SimpleNamespace(name="taken", info=SimpleNamespace(run_id="m1"))

            def __init__(self, project: str, *place: str, **options: Any) -> None:
                found.projects.add(project)
                found.options[name], found.places[name] = options, place

            def start(self) -> None:
                attempt("start")

            def store_init_configuration(self, settings: Any) -> None:
                found.configured[name] = settings
                attempt("configure")

            def log(self, values: Any, step: int) -> None:
                found.logged.append(name)
                attempt("log")

            def finish(self) -> None:
                found.ended.append(name)
                attempt("finish")

        return Tracker


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of a tracker is set, and none stays."""
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
        del os.environ[variable]
    monkeypatch.setattr(module, "_placed", {})
    monkeypatch.setattr(module, "LOGGER_TYPE_TO_CLASS", {})


def trackers_of(folder: Path, names: list[str], note: Any, **fails: str) -> tuple[Trackers, Found]:
    """Trackers of a run folder, each a fake; some fail at something."""
    folder.mkdir(exist_ok=True)
    found = Found()
    for name in names:
        module.LOGGER_TYPE_TO_CLASS[name] = found.kind(name, fails.get(name, ""))
    return Trackers(names, RunFolder(folder), note), found


def start(folder: Path, step: int, names: list[str] = NAMES) -> Found:
    trackers, found = trackers_of(folder, names, pytest.fail)
    with trackers:
        trackers.start({"seed": 1}, step)
        trackers.end()
    assert found.ended == names
    return found


def test_files_lie_in_the_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in (tmp_path / "one", tmp_path / "two"):  # of one process
        found, place = start(run, 0, ["mlflow", "trackio", "tensorboard"]), run / "trackers"
        assert capsys.readouterr().out == ""
        assert (found.projects, found.configured["mlflow"]) == ({"red"}, {"seed": 1})
        assert found.places == {"mlflow": (), "trackio": (), "tensorboard": (str(place),)}
        assert found.options["mlflow"] == {"run_name": run.name, "logging_dir": (place / "mlflow-artifacts").as_uri()}
        assert found.options["trackio"] == {"name": run.name, "resume": "never"}
        assert found.options["tensorboard"] == {"purge_step": 1}
        assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{place}/mlflow.db"
        assert os.environ["TRACKIO_DIR"] == str(place / "trackio")
        wandb = start(run, 0).options["wandb"]
        assert wandb == {"name": run.name, "dir": str(place), "id": wandb["id"]}
        assert os.environ["WANDB_CACHE_DIR"].startswith(str(place))
        capsys.readouterr()


def test_a_resumed_run_continues_the_tracked_one(tmp_path: Path) -> None:
    first = start(tmp_path / "run", 0)
    found = start(tmp_path / "run", 5)
    assert found.configured == {}
    assert found.options["wandb"] == {**first.options["wandb"], "resume": "allow"}
    assert found.options["mlflow"]["run_id"] == "m1"
    assert found.options["trackio"] == {"name": "taken", "resume": "allow"}
    assert found.options["tensorboard"] == {"purge_step": 6}
    again = start(tmp_path / "run", 0)  # from the beginning
    assert again.options["wandb"]["id"] != first.options["wandb"]["id"]
    assert "run_id" not in again.options["mlflow"]


def test_a_tracker_that_joins_a_resumed_run(tmp_path: Path) -> None:
    start(tmp_path / "run", 0, ["mlflow"])
    found = start(tmp_path / "run", 5, ["mlflow", "trackio"])
    assert found.configured == {"trackio": {"seed": 1}}
    assert found.options["trackio"] == {"name": "run", "resume": "never"}
    start(tmp_path / "run", 6, ["trackio"])
    assert start(tmp_path / "run", 7, ["mlflow"]).options["mlflow"]["run_id"] == "m1"  # which was left out for a while


@pytest.mark.parametrize("moment", ["log", "finish"])
def test_a_failure_disables_one_and_ends_all(tmp_path: Path, capsys: pytest.CaptureFixture[str], moment: str) -> None:
    notes: list[str] = []
    trackers, found = trackers_of(tmp_path / "run", ["mlflow", "trackio"], notes.append, mlflow=moment)
    with trackers:
        trackers.start({}, 0)
        trackers.log({"loss": 1.0}, 1)
        trackers.log({"loss": 1.0}, 2)
    assert len(notes) == 1
    assert notes[0].startswith("mlflow failed")
    assert found.logged.count("mlflow") == (1 if moment == "log" else 2)
    assert found.logged.count("trackio") == 2
    assert found.ended == ["mlflow", "trackio"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("moment", "ended"), [("start", ["mlflow"]), ("configure", ["mlflow", "trackio"])])
def test_a_failed_start_ends_those_that_started(tmp_path: Path, moment: str, ended: list[str]) -> None:
    trackers, found = trackers_of(tmp_path / "run", ["mlflow", "trackio"], pytest.fail, trackio=moment)
    with pytest.raises(UserError) as caught:
        trackers.start({}, 0)
    assert caught.value.code == "unavailable"
    assert found.ended == ended


def test_only_wandb_reads_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(tmp_path / "run", 0, ["wandb", "trackio"])
    assert capsys.readouterr().out.split() == ["start", "configure", "finish"]


def test_a_rank_that_does_not_write_starts_none(tmp_path: Path) -> None:
    trackers, found = trackers_of(tmp_path / "run", NAMES, pytest.fail)
    trackers = Trackers(NAMES, RunFolder(tmp_path / "run", writes=False), pytest.fail)
    trackers.start({}, 0)
    trackers.log({"loss": 1.0}, 1)
    trackers.end()
    assert found == Found()
    assert not list((tmp_path / "run").iterdir())


def test_a_users_own_places_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path / "earlier", 0)  # of the same process
    own = {"WANDB_DIR": "w", "MLFLOW_TRACKING_URI": "http://m", "TRACKIO_DIR": "t", "WANDB_PROJECT": "mine"}
    for variable, value in own.items():
        monkeypatch.setenv(variable, value)
    found = start(tmp_path / "run", 0)
    assert {variable: os.environ[variable] for variable in own} == own
    assert found.projects == {"mine"}
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
