"""A recipe trains the same on one process and on several; `red train` starts real processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from red_cli.distributed.launch import free_port
from tests.conftest import run_red
from tests.extras import has_extra, needs_extra
from tests.tiny import make_language_model, read_lines
from tests.train.started import PATIENCE, adapter_bytes, largest_difference, logged, losses, start, train

pytestmark = pytest.mark.slow  # each starts several Python processes

TWO = "launch.num_processes=2"
# strategy -> rows of a micro-batch; on one process they are 4
STRATEGIES = {"ddp": 1, "fsdp": 16, "zero2": 4, "zero3": 4}


def with_extra(strategy: str) -> str:
    if strategy.startswith("zero") and not has_extra("deepspeed"):
        pytest.skip("needs the extra deepspeed")
    return strategy


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, base: Path, data: Path) -> Path:
    """Without dropout; the last step of an epoch has a single row, weight decay and clipping have an effect."""
    path = tmp_path_factory.mktemp("plain") / "reviews.yaml"
    path.write_text(
        f"""
task: {{name: classification}}
model: {{name_or_path: {base}, dropout: 0.0}}
data: {{path: {data}, max_train_rows: 65}}
train: {{learning_rate: 1e-2, num_train_epochs: 2, batch_size: 16, micro_batch_size: 4, logging_steps: 1,
        weight_decay: 0.1, max_grad_norm: 0.5, warmup_steps: 3}}
"""
    )
    return path


@pytest.fixture(scope="module")
def single(plain: Path) -> Path:
    """The recipe on one process."""
    run = plain.parent / "single"
    outcome = run_red("train", plain, "launch.strategy=single", f"output.dir={run}")
    assert outcome.code == 0, outcome.err
    return run


@pytest.fixture(scope="module")
def spread(plain: Path) -> Callable[[str], Path]:
    """The recipe on two processes by a strategy, run once."""

    def run(strategy: str) -> Path:
        folder = plain.parent / strategy
        if not folder.exists():
            size = f"train.micro_batch_size={STRATEGIES[strategy]}"
            code, out, err = train(plain, folder, TWO, f"launch.strategy={strategy}", size, "--json")
            assert code == 0, err
            assert json.loads(out)["training"]["processes"] == 2
            assert "Traceback" not in err
            assert "warning" not in err.lower()
        return folder

    return run


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains_the_same(single: Path, spread: Callable[[str], Path], strategy: str) -> None:
    run = spread(with_extra(strategy))
    assert losses(run) == pytest.approx(losses(single), rel=1e-5)
    assert len(losses(run)) == 10
    assert largest_difference(run, single) < 1e-4
    answers = [read_lines(folder / "predictions" / "validation.jsonl") for folder in (run, single)]
    assert [row["index"] for row in answers[0]] == list(range(40))  # each once
    assert [row["prediction"] for row in answers[0]] == [row["prediction"] for row in answers[1]]
    for one, other in zip(read_lines(run / "log.jsonl"), read_lines(single / "log.jsonl"), strict=True):
        assert one.keys() == other.keys()
        assert one.get("gradient_norm", 0) == pytest.approx(other.get("gradient_norm", 0), rel=1e-4)


def test_full_fine_tuning(plain: Path, tmp_path: Path) -> None:
    """By DistributedDataParallel, resumed from a checkpoint of it, gives what one process gives."""
    keys = ("method=full", "train.rates=absolute", "train.learning_rate=1e-3", "train.save_steps=1")
    one, run = tmp_path / "one", tmp_path / "run"
    outcome = run_red("train", plain, *keys, "launch.strategy=single", f"output.dir={one}")
    assert outcome.code == 0, outcome.err
    command = start("train", plain, *keys, TWO, "launch.strategy=ddp", "train.micro_batch_size=2", run=run)
    command.wait_for_step(2)
    command.process.send_signal(signal.SIGTERM)
    assert command.wait()[0] == 130
    code, _, err = train(plain, run, *keys, TWO, "launch.strategy=ddp", "train.micro_batch_size=2")
    assert code == 0, err
    assert "Resuming from step" in err
    assert "warning" not in err.lower()
    assert losses(run) == pytest.approx(losses(one), rel=1e-5)


def test_a_run_resumes_under_other_strategies(plain: Path, single: Path, tmp_path: Path) -> None:
    """Interrupted under one strategy, resumed under the next."""
    run, slow = tmp_path / "run", ("train.save_steps=1", TWO)
    *interrupted, last = ["zero2", "zero3", "fsdp"] if has_extra("deepspeed") else ["ddp", "fsdp"]
    done = 0
    for strategy in interrupted:
        command = start("train", plain, *slow, f"launch.strategy={strategy}", run=run)
        command.wait_for_step(done + 1)
        command.process.send_signal(signal.SIGTERM)
        code, _, err = command.wait()
        assert code == 130, err
        assert ("Resuming from step" in err) == (done > 0)
        assert not (run / ".lock").exists()
        done = logged(run)
    code, _, err = train(plain, run, *slow, f"launch.strategy={last}")
    assert code == 0, err
    assert "Resuming from step" in err
    assert losses(run) == pytest.approx(losses(single), rel=1e-5)
    assert largest_difference(run, single) < 1e-4


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for texts of different lengths; its run on one process is in the same folder."""
    folder = tmp_path_factory.mktemp("texts")
    base = make_language_model(folder / "gpt2", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    rows = [{"prompt": f"the {word} film was", "completion": " ".join([" very"] * (index % 5 + 1)) + " good"}
            for index, word in enumerate(["good", "bad", "dull", "sweet", "poor", "fine", "sour"] * 3)]  # fmt: skip
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    recipe = folder / "texts.yaml"
    recipe.write_text(
        f"""
task: {{name: generation}}
model: {{name_or_path: {base}}}
data: {{train: train.jsonl, validation: validation.jsonl}}
train: {{learning_rate: 1e-2, max_steps: 4, batch_size: 6, micro_batch_size: 2, logging_steps: 1}}
eval: {{metric: exact_match, generation: {{max_new_tokens: 4, num_beams: 2}}}}
"""
    )
    outcome = run_red("train", recipe, "launch.strategy=single", f"output.dir={folder / 'single'}")
    assert outcome.code == 0, outcome.err
    return recipe


def answers_of(run: Path) -> list[tuple[int, str, str]]:
    rows = read_lines(run / "predictions" / "validation.jsonl")
    return [(row["index"], row["prompt"], row["prediction"]) for row in rows]


@pytest.mark.parametrize("strategy", ["fsdp", "zero3"])  # whose models generate in parts
def test_texts_are_trained_on_and_generated(texts: Path, tmp_path: Path, strategy: str) -> None:
    run, alone = tmp_path / "run", texts.parent / "single"
    code, _, err = train(texts, run, TWO, f"launch.strategy={with_extra(strategy)}")
    assert code == 0, err
    assert answers_of(run) == answers_of(alone)
    assert len(answers_of(alone)) == 21
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5)


def test_started_by_another_launcher(plain: Path, spread: Callable[[str], Path], tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "red_cli")
    size = f"train.micro_batch_size={STRATEGIES['ddp']}"
    code, out, err = start("train", plain, size, "--json", run=tmp_path / "run", command=torchrun).wait()
    assert code == 0, err
    assert json.loads(out)["training"]["processes"] == 2
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(spread("ddp"))
    more = ("launch.num_processes=3", "--json")
    code, out, err = start("train", plain, *more, run=tmp_path / "other", command=torchrun).wait()
    assert code == 1  # the launcher's
    assert json.loads(out)["error"]["code"] == "invalid-launch"
    assert "launch.num_processes is 3, but 2 processes" in err


@needs_extra("track")
def test_trackers_end_before_the_processes_do(plain: Path, tmp_path: Path) -> None:
    run, keys = tmp_path / "run", ("train.max_steps=4", "train.report_to=tensorboard", "--json")
    code, out, err = train(plain, run, TWO, "launch.strategy=ddp", "train.micro_batch_size=1", *keys)
    assert code == 0, err
    assert json.loads(out)["training"]["processes"] == 2
    assert "failed" not in err
    assert len(list((run / "trackers" / "red").glob("events.*"))) == 1  # one rank's


def machine_keys(port: int) -> list[str]:
    return ["launch.num_machines=2", TWO, "launch.main_process_ip=127.0.0.1", f"launch.main_process_port={port}"]


def test_two_machines(plain: Path, spread: Callable[[str], Path], tmp_path: Path) -> None:
    keys = (*machine_keys(free_port()), f"train.micro_batch_size={STRATEGIES['ddp']}")
    machines = [start("train", plain, *keys, f"launch.machine_rank={rank}", run=tmp_path / "run") for rank in (1, 0)]
    for machine in machines:
        code, _, err = machine.wait()
        assert code == 0, err
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(spread("ddp"))


def test_a_machine_that_does_not_connect(plain: Path, tmp_path: Path) -> None:
    """Either one, each at a port where nobody else is."""
    ports = {rank: free_port() for rank in (1, 0)}
    started = {
        rank: start("train", plain, *machine_keys(port), f"launch.machine_rank={rank}", "launch.timeout=4", "--json",
                    run=tmp_path / str(rank))
        for rank, port in ports.items()
    }  # fmt: skip
    for rank, command in started.items():
        code, out, err = command.wait()
        assert (code, json.loads(out)["error"]["code"]) == (2, "invalid-launch")
        assert f"127.0.0.1:{ports[rank]} within 4 s" in err
        assert len(err.splitlines()) <= 3
        assert not (tmp_path / str(rank)).exists()


def test_a_worker_that_dies(plain: Path, tmp_path: Path) -> None:
    endless = ("train.max_steps=2000", "train.eval_steps=2000")
    run = start("train", plain, TWO, *endless, "--json", run=tmp_path / "run")
    run.wait_for_step(2)
    run.workers()[1].kill()
    run.process.wait(timeout=PATIENCE)
    code, out, err = run.wait()
    assert (code, json.loads(out)["error"]["code"]) == (1, "process-failed")
    assert err.splitlines()[-2].startswith("error: process 1 was ended by SIGKILL")


BROKEN = """
import os, sys
from red_cli.train import loop as module
step = module.optimizer_step
def broken(session, rows):
    if os.environ["RANK"] == "1" and session.state.step == 2:
        raise ValueError("a fault of this process alone")
    return step(session, rows)
module.optimizer_step = broken
from red_cli.cli import main
main()
"""


def test_the_exception_of_a_worker_comes_last(plain: Path, tmp_path: Path) -> None:
    """Started by torchrun, so that the test can give a worker a fault."""
    (tmp_path / "broken.py").write_text(BROKEN)
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(tmp_path / "broken.py"))
    started = start("train", plain, run=tmp_path / "run", command=torchrun)
    started.process.wait(timeout=PATIENCE)
    _, _, err = started.wait()
    assert "ValueError: a fault of this process alone" in "\n".join(err.splitlines()[-6:])


def test_the_folder_of_a_living_run(red: Callable, plain: Path, tmp_path: Path) -> None:
    endless = ("train.max_steps=2000", "train.eval_steps=2000")
    first = start("train", plain, *endless, run=tmp_path / "run")
    first.wait_for_step(2)
    second = red("train", plain, *endless, f"output.dir={tmp_path / 'run'}", "--json")
    assert (second.code, second.json["error"]["code"]) == (2, "folder-in-use")
    assert f"process {first.process.pid} on" in second.err
    first.process.send_signal(signal.SIGUSR1)
    assert first.wait()[0] == 130
