"""`red runs`: what a folder of runs says, and a finished run that is given again or trained further."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.train import loop as train_module
from red_cli.train.lock import FolderLock
from tests.conftest import Outcome
from tests.failures import assert_failed, fails
from tests.train.started import start


def by_name(outcome: Outcome) -> dict[str, dict]:
    """The runs that `red runs --json` lists, by the name of their folder."""
    assert outcome.code == 0, outcome.err
    return {Path(run["folder"]).name: run for run in outcome.json["runs"]}


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Stop a run of this process by SIGTERM after so many steps."""
    real = train_module.optimizer_step

    def stepped(session, rows):
        if session.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", stepped)


@pytest.mark.slow
def test_an_unattended_users_runs(red, recipe: Path, tmp_path: Path) -> None:
    """One finished, one failed; in processes of their own: one killed, one interrupted, one requeued, one running."""
    runs = tmp_path / "runs"
    long = ("train.max_steps=3000", "train.eval_steps=100", "train.save_steps=20")
    started = {name: start("train", recipe, *long, run=runs / name) for name in ("killed", "interrupted")}
    not_finite = ("train.learning_rate=1e25", "train.max_grad_norm=null")
    assert red("train", recipe, f"output.dir={runs / 'finished'}").code == 0
    assert red("train", recipe, *not_finite, f"output.dir={runs / 'failed'}").code == 1
    for name, how in (("killed", signal.SIGKILL), ("interrupted", signal.SIGTERM)):
        started[name].wait_for_step(25)
        started[name].process.send_signal(how)
    codes = {name: command.wait()[0] for name, command in started.items()}
    assert codes == {"killed": -signal.SIGKILL, "interrupted": 130}
    shutil.copytree(runs / "interrupted", runs / "nested" / "requeued")
    found = by_name(red("runs", runs, "--json"))
    assert {name: run["state"] for name, run in found.items()} == {
        "finished": "finished", "killed": "interrupted", "interrupted": "interrupted", "failed": "failed",
        "requeued": "interrupted",
    }  # fmt: skip
    assert (found["killed"]["reason"], found["interrupted"]["reason"]) == ("killed", "stopped")
    for name in ("killed", "interrupted"):
        assert 20 <= found[name]["resumes_from"] <= found[name]["step"] < found[name]["total_steps"] == 3000
    assert "not finite" in found["failed"]["reason"]
    requeued = start(*found["requeued"]["next"].split()[1:], "train.max_steps=3000")
    requeued.run = runs / "nested" / "requeued"
    requeued.wait_for_step(found["requeued"]["step"] + 3)
    assert by_name(red("runs", runs, "--json"))["requeued"]["state"] == "running"
    requeued.process.send_signal(signal.SIGTERM)
    assert requeued.wait()[0] == 130
    again = by_name(red("runs", runs, "--json"))["requeued"]
    assert (again["state"], again["reason"]) == ("interrupted", "stopped")
    assert again["step"] > found["requeued"]["step"]


def test_each_state_is_read_from_the_folder(
    red, recipe: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    shutil.move(finished, runs / "finished")
    real = train_module.optimizer_step
    interrupt(monkeypatch, 7)
    assert red("train", recipe, f"output.dir={runs / 'deep' / 'stopped'}").code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real)
    failing = ["train.learning_rate=1e25", "train.max_grad_norm=null"]
    assert red("train", recipe, *failing, f"output.dir={runs / 'failed'}").code == 1
    shutil.copytree(runs / "deep" / "stopped", runs / "killed")
    (runs / "killed" / ".lock").write_text("process 1 on elsewhere")
    with (runs / "killed" / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "lo')  # cut short
    (runs / "unstarted").mkdir()
    (runs / "unstarted" / ".lock").touch()
    for name, file, content in (
        ("cut", "metrics.json", '{"training": {'),
        ("odd", "metrics.json", "[]"),
        ("other", "metrics.json", '{"training": 3}'),
        ("unread", "recipe.yaml", "a: [1"),
    ):
        shutil.copytree(runs / "deep" / "stopped", runs / name)
        (runs / name / file).write_text(content)
    (runs / "photos").mkdir()
    (runs / "photos" / "recipe.yaml").write_text("eggs: 3")
    lock = FolderLock(runs / "deep" / "stopped")
    outcome = red("runs", runs, "--json")
    states = {name: run["state"] for name, run in by_name(outcome).items()}
    assert states == {
        "finished": "finished", "stopped": "interrupted", "killed": "interrupted", "failed": "failed",
        "unstarted": "never started", "cut": "damaged", "odd": "damaged", "other": "damaged", "unread": "damaged",
    }  # fmt: skip
    assert outcome.json["left_out"] == [{"folder": str(runs / "photos"), "reason": "no run in it"}]
    found = by_name(outcome)
    assert (found["finished"]["step"], found["finished"]["total_steps"]) == (12, 12)
    metrics = json.loads((runs / "finished" / "metrics.json").read_text())
    assert found["finished"]["score"] == metrics["splits"]["validation"]["accuracy"]
    assert (found["stopped"]["step"], found["stopped"]["resumes_from"]) == (8, 8)
    assert found["stopped"]["metric"] == "accuracy"
    logged = [json.loads(line) for line in (runs / "deep" / "stopped" / "log.jsonl").read_text().splitlines()]
    assert found["stopped"]["score"] == next(line["validation_accuracy"] for line in logged if "loss" not in line)
    assert (
        found["failed"]["step"] == json.loads((runs / "failed" / "log.jsonl").read_text().splitlines()[-1])["step"] - 1
    )
    written = sum(file.stat().st_size for file in (runs / "failed").rglob("*") if file.is_file())
    assert found["failed"]["bytes"] == written
    # Held by a process: this one
    lock.take()
    running = by_name(red("runs", runs, "--json"))["stopped"]
    lock.release()
    assert (running["state"], running["next"]) == ("running", None)
    assert str(os.getpid()) in running["reason"]
    # The command that is named resumes: with the folder named where it was moved
    assert f"output.dir={runs / 'killed'}" in found["killed"]["next"].split()
    assert red(*found["stopped"]["next"].split()[1:]).code == 0
    assert by_name(red("runs", runs, "--json"))["stopped"]["state"] == "finished"
    # On screen, each fits a line of the terminal
    monkeypatch.setenv("COLUMNS", "80")
    table, below = red("runs", runs).out.split("\n\n")
    assert len(table.splitlines()) == 1 + len(found)
    assert max(map(len, table.splitlines())) <= 80
    assert found["failed"]["next"] in below


def test_a_folder_without_runs(red, tmp_path: Path) -> None:
    outcome = red("runs", tmp_path, "--json")
    assert (outcome.code, outcome.json["runs"]) == (0, [])
    assert_failed(red("runs", tmp_path / "nowhere", "--json"), "folder-not-found", "nowhere")


def test_runs_are_listed_without_heavy_imports(finished: Path) -> None:
    probe = (
        "import sys; from red_cli.cli import app; app(['runs', sys.argv[1]], standalone_mode=False);"
        "print([name for name in ('torch', 'transformers', 'numpy', 'red_cli.recipe.schema') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe, finished], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_a_finished_run_given_again_shows_its_result(red, recipe: Path, finished: Path, base: Path, data: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    outcome = red("train", recipe, "--json")
    assert outcome.code == 0
    assert outcome.json["folder"] == str(finished)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert {**outcome.json, "folder": None} == {**metrics, "folder": None}
    assert str(finished) in outcome.err
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before
    assert red("train", recipe, "--resume", "train.logging_steps=7").code == 0  # nothing that is trained differs
    assert_failed(red("train", recipe, "train.weight_decay=0.1", "--json"), "different-recipe", "0.0 -> 0.1")
    assert_failed(
        red("train", recipe, "train.num_train_epochs=3", "--json"), "different-recipe", "2.0 -> 3.0", "--more-epochs"
    )


def test_more_epochs_start_from_the_finished_run(
    red, recipe: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    more = tmp_path / "run-more1"
    real = train_module.optimizer_step
    interrupt(monkeypatch, 3)
    assert red("train", recipe, "--more-epochs", "1").code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real)
    outcome = red("train", recipe, "--more-epochs", "1", "--json")
    assert outcome.code == 0, outcome.err
    assert "step 4 of 6" in outcome.err
    assert (outcome.json["folder"], outcome.json["init_from"]) == (str(more), str(finished))
    assert {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()} == before
    # The same adapter as by the key, without the interruption
    keys = [f"train.init_from={finished}", "train.num_train_epochs=1", f"output.dir={tmp_path / 'by-key'}"]
    assert red("train", recipe, *keys).code == 0
    name = Path("adapter") / WEIGHTS_FILE
    assert (more / name).read_bytes() == (tmp_path / "by-key" / name).read_bytes() != (finished / name).read_bytes()
    assert red("train", recipe, "--more-epochs", "1").code == 0  # finished by now
    # It resumes without the run that it started from
    monkeypatch.setattr(train_module, "optimizer_step", real)
    keys = [f"train.init_from={finished}", f"output.dir={tmp_path / 'resumed'}"]
    interrupt(monkeypatch, 3)
    assert red("train", recipe, *keys).code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real)
    shutil.rmtree(finished)
    assert red("train", recipe, *keys).code == 0


@pytest.mark.parametrize("method", ["red", "lora", "full", "head"])
def test_the_first_loss_is_that_of_the_adapter(red, recipe: Path, tmp_path: Path, method: str) -> None:
    """Without a learning rate to speak of, the run that starts from another one scores as that one does."""
    keys = [f"method={method}", "train.eval_steps=1"]
    first = red("train", recipe, *keys, "train.max_steps=6", f"output.dir={tmp_path / 'first'}", "--json").json
    tiny = ["train.learning_rate=1e-30", "train.max_steps=1", f"train.init_from={tmp_path / 'first'}"]
    second = red("train", recipe, *keys, *tiny, "--json")
    assert second.code == 0, second.err
    assert second.json["best"]["value"] == first["best"]["value"]
    fresh = red("train", recipe, *keys, *tiny[:2], f"output.dir={tmp_path / 'fresh'}", "--json").json
    assert fresh["best"]["value"] != first["best"]["value"]


def test_only_a_run_that_fits_is_started_from(red, recipe: Path, finished: Path, tmp_path: Path, data: Path) -> None:
    start_from = f"train.init_from={finished}"
    elsewhere = f"output.dir={tmp_path / 'next'}"
    other = shutil.copytree(data, tmp_path / "other")
    for file in other.iterdir():
        file.write_text(file.read_text().replace("positive", "cheerful"))
    shutil.copytree(finished, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "metrics.json").unlink()
    base = shutil.copytree(json.loads((finished / "metrics.json").read_text())["base"], tmp_path / "moved")
    # keys -> code, facts
    faults = {
        (f"train.init_from={tmp_path / 'nowhere'}",): ("folder-not-found", "train.init_from"),
        (f"train.init_from={tmp_path}",): ("not-a-run", "train.init_from"),
        (f"train.init_from={tmp_path / 'unfinished'}",): ("run-unfinished", str(tmp_path / "unfinished" / "adapter")),
        (start_from, "method=head"): ("invalid-recipe", "red", "head"),
        (start_from, "red.components=[scale]"): ("invalid-recipe", "red.components"),
        (start_from, "red.positions=red++"): ("base-mismatch", "modules"),
        (start_from, "red.layers=[0]"): ("base-mismatch", "layer.1"),
        (start_from, f"model.name_or_path={base}"): ("invalid-recipe", str(base)),
        (start_from, f"data.path={other}"): ("labels-mismatch", "positive", "cheerful"),
    }
    for keys, (code, *facts) in faults.items():
        assert_failed(red("train", recipe, elsewhere, *keys, "--json"), code, *facts)
        assert not (tmp_path / "next").exists(), keys
    assert_failed(red("train", recipe, start_from, "train.seed=1", f"output.dir={tmp_path / 'x'}", "--more-epochs", "1",
                      "--json"), "run-unfinished", str(tmp_path / "x"))  # fmt: skip
    for wrong in ("0", "-1", "nan"):
        assert_failed(red("train", recipe, f"--more-epochs={wrong}", "--json"), "invalid-option", "--more-epochs")


def test_a_failed_run_that_is_given_again_is_not_failed_any_more(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train_module.optimizer_step

    def step(session, rows):
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", recipe).code == 1
    failed = by_name(red("runs", tmp_path, "--json"))["run"]
    assert (failed["state"], failed["step"]) == ("failed", 0)
    assert "the device is lost" in failed["reason"]
    monkeypatch.setattr(train_module, "optimizer_step", real)
    assert red(*failed["next"].split()[1:]).code == 0
    assert by_name(red("runs", tmp_path, "--json"))["run"]["state"] == "finished"


def test_a_lock_of_a_live_process_is_seen_and_left_alone(tmp_path: Path) -> None:
    from red_cli.train.lock import lock_holder

    assert lock_holder(tmp_path) is None
    lock = FolderLock(tmp_path / "run")
    lock.take()
    content = lock.path.read_bytes()
    assert str(os.getpid()) in str(lock_holder(tmp_path / "run"))
    assert lock.path.read_bytes() == content
    lock.require_held()
    other = FolderLock(tmp_path / "run")
    with fails("folder-in-use", str(os.getpid())), pytest.MonkeyPatch.context() as patch:
        patch.setattr("red_cli.train.lock._PATIENCE", 0.01)
        other.take()
    lock.release()
    assert lock_holder(tmp_path / "run") is None
