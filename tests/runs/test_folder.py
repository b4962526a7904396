"""A run folder belongs to one run at a time; it is never overwritten, and a deleted one is not created again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from accelerate.tracking import TensorBoardTracker

from red_cli.errors import RunFailed, UserError
from red_cli.files import subfolders
from red_cli.train import loop as train_module
from red_cli.train.lock import LOCK_FILE, FolderLock

# Older ones empty the lock file while they wait, and delete whatever lies at its path when they let go
keeps_lock_files = pytest.mark.skipif(
    int(version("filelock").split(".")[0]) < 4, reason="needs filelock 4: older ones write to lock files of others"
)
HOLD = """
import sys
from pathlib import Path
from red_cli.train.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@pytest.fixture
def held(tmp_path: Path):
    """A folder that another process holds."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate()


@keeps_lock_files
def test_a_folder_in_use_is_refused(
    red: Callable, recipe: Path, tmp_path: Path, held: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("red_cli.train.lock._PATIENCE", 0.2)
    for keys in ([], ["train.seed=7"]):  # the same run, and another
        outcome = red("train", recipe, *keys, "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, "folder-in-use")
        assert f"process {held.pid} on" in outcome.err
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK_FILE]
    held.communicate()
    assert not (tmp_path / "run").exists()  # the other process made it and wrote nothing


def test_a_lock_ends_with_its_process(tmp_path: Path, held: subprocess.Popen) -> None:
    held.kill()
    held.wait()
    lock = FolderLock(tmp_path / "run")
    lock.take()
    lock.release()


def test_a_run_that_finished_while_another_waited_is_kept(
    red: Callable, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert red("train", recipe, f"output.dir={tmp_path / 'first'}", "train.max_steps=1").code == 0
    real_take = FolderLock.take

    def take(lock: FolderLock) -> None:
        shutil.copytree(tmp_path / "first", tmp_path / "run")
        real_take(lock)

    monkeypatch.setattr(FolderLock, "take", take)
    outcome = red("train", recipe, "train.seed=7", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "output-exists")
    names = {path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*")}
    assert {path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*")} == names


@pytest.mark.parametrize(
    "keys",
    [["data.path=/nowhere"], ["model.name_or_path=/nowhere"], ["red.positions=[attn_norm, qkv]"]],
    ids=["no data", "no base", "no such position"],
)
def test_a_run_that_cannot_start_leaves_no_folder(red: Callable, recipe: Path, tmp_path: Path, keys: list[str]) -> None:
    outcome = red("train", recipe, f"output.dir={tmp_path / 'deep' / 'down' / 'run'}", *keys)
    assert outcome.code == 2
    assert not (tmp_path / "deep").exists()


def test_a_folder_that_is_no_run_is_not_touched(red: Callable, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    outcome = red("train", recipe, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "output-exists")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "again",
    [False, pytest.param(True, marks=keeps_lock_files)],
    ids=["deleted", "deleted and made again"],
)
def test_a_run_whose_folder_is_deleted_ends_with_a_message(
    red: Callable, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.state.step == 7:
            shutil.rmtree(tmp_path / "run")
            if again:
                (tmp_path / "run").mkdir()
                (tmp_path / "run" / LOCK_FILE).write_text("another run")
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    outcome = red("train", recipe, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (RunFailed.exit_code, "folder-vanished")
    assert (tmp_path / "run").exists() == again
    if again:
        assert (tmp_path / "run" / LOCK_FILE).read_text() == "another run"


def tracking(recipe: Path) -> list[object]:
    pytest.importorskip("tensorboard", reason="needs the extra track")
    return ["train", recipe, "train.report_to=[tensorboard]"]


def test_a_tracker_that_cannot_start_is_named(
    red: Callable, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("nobody is logged in\nand more")

    command = tracking(recipe)
    monkeypatch.setattr(TensorBoardTracker, "start", fail)
    outcome = red(*command, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (UserError.exit_code, "unavailable")
    assert "train.report_to: tensorboard" in outcome.err
    assert "nobody is logged in" in outcome.err
    assert "and more" not in outcome.err
    assert red("train", recipe).code == 0  # without it, the run uses the same folder


def test_a_tracker_that_fails_later_does_not_end_the_run(
    red: Callable, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError

    command = tracking(recipe)
    monkeypatch.setattr(TensorBoardTracker, "log", fail)
    outcome = red(*command)
    assert outcome.code == 0
    assert outcome.err.count("ConnectionError") == 1


def test_folders_are_listed_by_the_numbers_in_their_names(tmp_path: Path) -> None:
    names = ["a", "run1", "run2", "run10", "run10-more1", "run10-more2"]
    for name in [*reversed(names), ".hidden"]:
        (tmp_path / name).mkdir()
    assert [folder.name for folder in subfolders(tmp_path)] == names
