"""A training, an evaluation or an export that is killed several times at random moments still gives the same files.

The signal is SIGKILL, so no clean-up runs.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from red_cli.recipe.load import load_recipe
from red_cli.train.loop import train as train_here
from tests.tiny import make_language_model
from tests.train.started import adapter_bytes, logged, losses, start, train

pytestmark = pytest.mark.slow

_STEPS = 80
_EVALUATIONS, _EXPORTS = 1, 1  # that are killed
_KILLS = {1: 1, 2: 1}  # by processes


@pytest.mark.parametrize("processes", _KILLS)
def test_killed_at_random_moments(recipe: Path, tmp_path: Path, processes: int) -> None:
    """Dropout is on, so the generators of every rank must be restored too."""
    keys = (f"train.max_steps={_STEPS}", "train.save_steps=1", "train.eval_steps=20", "train.micro_batch_size=4",
            f"launch.num_processes={processes}")  # fmt: skip
    whole, run = tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    code, _, err = train(recipe, whole, *keys)
    assert code == 0, err
    startup = (time.monotonic() - started) / 2
    moments = random.Random(processes)
    kills = _KILLS[processes]
    for _ in range(kills):
        command = start("train", recipe, *keys, run=run)
        if moments.random() < 0.3:  # while it starts
            time.sleep(moments.uniform(0, startup))
        else:  # somewhere in a step, an evaluation or a checkpoint
            before = logged(run) if (run / "log.jsonl").is_file() else 0
            command.wait_for_step(min(before, _STEPS // 2) + moments.randint(1, _STEPS // kills - 2))
            time.sleep(moments.uniform(0, 0.1))
        assert command.process.poll() is None, command.wait()[2]
        command.kill()
    code, _, err = train(recipe, run, *keys)
    assert code == 0, err
    assert adapter_bytes(run) == adapter_bytes(whole)
    assert losses(run) == losses(whole)
    assert (run / "predictions" / "validation.jsonl").read_text() == (
        whole / "predictions" / "validation.jsonl"
    ).read_text()
    names = [{path.name for path in folder.rglob("*")} for folder in (run, whole)]
    assert names[0] == names[1]  # no partly written file is left


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run that generates texts."""
    base = make_language_model(tmp_path / "base")
    files = ", ".join(f"{split}: {tmp_path / split}.jsonl" for split in ("train", "validation", "test"))
    rows = [{"prompt": f"the {word} film was", "completion": f"very {word}"} for word in ("good", "bad", "dull") * 40]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    recipe = tmp_path / "texts.yaml"
    recipe.write_text(
        f"""task: {{name: generation}}
model: {{name_or_path: {base}}}
data: {{{files}}}
train: {{max_steps: 4, batch_size: 16, micro_batch_size: 16}}
eval: {{batch_size: 1, generation: {{max_new_tokens: 8}}}}
output: {{dir: {tmp_path / "run"}}}
"""
    )
    train_here(load_recipe(str(recipe)))
    return tmp_path / "run"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "README.md"  # the card has the folder's own name
    }


def kill_at_random(moments: random.Random, duration: float, *arguments: object) -> None:
    """Start a command, and kill it within its usual `duration`; most often late, because the start takes long."""
    command = start(*arguments)
    time.sleep(duration * (moments.uniform(0.4, 1.0) if moments.random() < 0.8 else moments.uniform(0, 0.4)))
    command.kill()


def test_an_evaluation_killed_at_random_moments(finished: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(finished, whole)
    started = time.monotonic()
    code, _, err = start("eval", whole).wait()
    assert code == 0, err
    duration = time.monotonic() - started
    moments = random.Random(13)
    for _ in range(_EVALUATIONS):
        kill_at_random(moments, duration, "eval", finished)
        json.loads((finished / "metrics.json").read_text())  # valid at any time
    code, _, err = start("eval", finished).wait()
    assert code == 0, err
    assert files_of(finished) == files_of(whole)


def test_an_export_killed_at_random_moments(finished: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "exports" / "whole", tmp_path / "exports" / "merged"
    started = time.monotonic()
    code, _, err = start("export", finished, "--output", whole).wait()
    assert code == 0, err
    duration = time.monotonic() - started
    moments = random.Random(14)
    for _ in range(_EXPORTS):
        kill_at_random(moments, duration, "export", finished, "--output", output)
        if output.exists():  # the signal was too late
            assert files_of(output) == files_of(whole)
            shutil.rmtree(output)
    code, _, err = start("export", finished, "--output", output).wait()
    assert code == 0, err
    assert files_of(output) == files_of(whole)
    assert {path.name for path in output.parent.iterdir()} == {"whole", "merged"}  # no partly written file is left
