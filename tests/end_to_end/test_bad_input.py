"""What a user can get wrong: one short message, exit code 2, nothing half-written."""

from __future__ import annotations

import errno
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from red_cli.base_model.stored_tensor import vector
from red_cli.distributed.deepspeed_config import deepspeed_config
from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.errors import UserError, out_of_space
from red_cli.recipe.sections import Launch
from red_cli.train import checkpoint
from tests.conftest import Outcome
from tests.extras import cases
from tests.tiny import make_base, sentences, write_csv

# name -> (arguments of `red train` beside the recipe, words of the message)
TRAIN_FAULTS = {
    "misspelt key": (["train.lerning_rate=1"], "Did you mean train.learning_rate?"),
    "metrics of labels": (["eval.metrics=[BLEU]"], "they are of generated texts; classification has its own"),
    "wrong type": (["train.seed=x"], "expected a whole number"),
    "no such variant": (["--variant", "large"], "no variant 'large'"),
    "no such model folder": (["model.name_or_path=/no/model"], "no such model folder: /no/model"),
    "model not on the Hub": (["model.name_or_path=some/model"], "model some/model"),
    "no such data": (["data.path=/no/data"], "no such file or folder: /no/data"),
    "no such column": (["data.columns.text=review"], "no column 'review'"),
    "no such label column": (["data.columns.label=stars"], "no column 'stars'"),
    "no such layer": (["red.layers=[9]"], "layers 0 to 2"),
    "nothing matches": (["red.target_modules=x"], "matches no module"),
    "too long": (["data.max_length=1000"], "at most 64 tokens"),
    "no such tracker": (["train.report_to=[tensorbord]"], "Did you mean tensorboard?"),
    "tracker not installed": (["train.report_to=[swanlab]"], "pip install swanlab"),
    "seed too large": (["train.seed=99999999999999999999"], "less than"),
    "endless": (["train.num_train_epochs=.inf"], "finite"),
    "label twice": (["task.labels=[a, b, a]"], "each label once"),
    "no such path": (["data.path=~nobody123/x"], "no such file or folder"),
    "shorter than anything": (["data.max_length=2"], "no text fits into fewer than"),
    "the paper's cut of other data": (["eval.split=paper"], "the paper's cut is of GLUE's validation sets"),
    "no such split rule": (["eval.split=papr"], "expected standard or paper (nearest: paper), got 'papr'"),
    "a drawn validation set to cut": (
        ["task={name: glue, subset: rte}", "eval.split=paper", "data.validation_share=0.1"],
        "drop data.validation_share",
    ),
    "metric of numbers for labels": (["eval.metric=pearson"], "scored by accuracy, f1, matthews_correlation"),
    "metric of labels for numbers": (
        ["task={name: glue, subset: stsb}", "eval.metric=f1"],
        "scored by pearson, spearman",
    ),
    "dropping everything": (["model.classifier_dropout=1.0"], "less than 1"),
    "more processes than devices": (["launch.num_processes=4096"], "4096 processes on this machine, which has"),
    "no such strategy": (["launch.strategy=zero1"], "expected auto, single, ddp, zero2, zero3 or fsdp"),
    "several processes as one": (["launch.strategy=single", "launch.num_processes=2"], "single is one process"),
    "a rank without a machine": (["launch.machine_rank=1"], "machines count from 0; there are 1"),
    "no main machine": (["launch.num_machines=2"], "launch.main_process_ip: required with several machines"),
    "uneven machines": (
        ["launch.num_machines=2", "launch.main_process_ip=x", "launch.num_processes=3"],
        "each having as many",
    ),
    "spread and quantised": (["launch.strategy=zero3", "model.quantization=4bit"], "zero3 does not go with"),
    "offload of nothing": (["launch.strategy=ddp", "launch.offload=true"], "is for the strategy zero3"),
    "a configuration without DeepSpeed": (["launch.deepspeed_config=x.json"], "is for the strategies zero2 and zero3"),
    "no such configuration": (["launch.strategy=zero2", "launch.deepspeed_config=/no.json"], "no such file: /no.json"),
    "nothing to spread": (["launch.strategy=fsdp", "method=full"], "method full freezes nothing"),
    "a search that cannot be": (["launch.strategy=zero2", "train.learning_rate=auto"], "takes a learning rate that is"),
    "labels given wrongly": (["task.labels=[good, bad]"], "is not one of: good, bad"),
}


@pytest.mark.parametrize(("arguments", "words"), cases(TRAIN_FAULTS, {"no such configuration": "deepspeed"}))
def test_faults_of_a_recipe(red, recipe: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    outcome = red("train", recipe, *arguments)
    assert (outcome.code, outcome.out) == (2, ""), outcome.err
    assert outcome.err.startswith("error: ")
    assert words in outcome.err
    assert len(outcome.err.splitlines()) <= 4
    assert not (tmp_path / "run").exists()


# what a DeepSpeed configuration says -> words of the message
CONFIGURATION_FAULTS = {
    "an optimiser": ({"optimizer": {"type": "Adam"}}, "optimizer: the optimiser is the recipe's"),
    "half precision": ({"bf16": {"enabled": True}}, "bf16: the vectors stay float32"),
    "another stage": ({"zero_optimization": {"stage": 3}}, "stage is 3, but launch.strategy is zero2"),
    "a list": ([1], "not a DeepSpeed configuration"),
}


@pytest.mark.parametrize(("content", "words"), CONFIGURATION_FAULTS.values(), ids=CONFIGURATION_FAULTS.keys())
def test_faults_of_a_deepspeed_configuration(tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "deepspeed.json"
    path.write_text(json.dumps(content))
    launch = Launch(strategy="zero2", deepspeed_config=str(path))
    with pytest.raises(UserError, match=re.escape(words)):
        deepspeed_config(launch, "zero2", 1.0)


def test_a_strategy_without_its_extra(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "deepspeed" else found(name))
    outcome = red("train", recipe, "launch.strategy=zero3")
    assert outcome.code == 2
    assert "pip install 'red-cli[deepspeed]'" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_once: tuple[Path, Outcome]
) -> None:
    """The checkpoint that no longer fits is not there at all, and the run goes on from the one before."""
    real = checkpoint.write_bytes

    def full(path: Path, content: bytes) -> None:
        if "step-12" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    outcome = red("train", recipe)
    assert outcome.code == 2
    assert "no space left on the disk" in outcome.err
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-6"]
    monkeypatch.setattr(checkpoint, "write_bytes", real)
    assert red("train", recipe).code == 0
    one, other = (load_file(run / "adapter" / WEIGHTS_FILE) for run in (tmp_path / "run", finished_once[0]))
    assert all(torch.equal(one[key], other[key]) for key in one)


def null_text(rows: list[dict]) -> list[dict]:
    return [*rows, {**rows[0], "text": None}]


DATA_FAULTS: dict[str, tuple[str, Callable[[list[dict]], list[dict]], str]] = {
    "null text": ("train", null_text, "row 41: column 'text' is null"),
    "null text in validation": ("validation", null_text, "row 41: column 'text' is null"),
    "label not seen in training": (
        "validation",
        lambda rows: [*rows, {**rows[0], "label": "mixed"}],
        "row 41: label 'mixed' is not one of: negative, positive",
    ),
    "one label": ("train", lambda rows: [{**row, "label": "same"} for row in rows], "fewer than two labels"),
    "no label column": ("train", lambda rows: [{"text": row["text"]} for row in rows], "label"),
    "empty split": ("validation", lambda rows: [], "empty"),
}


@pytest.mark.parametrize(("split", "change", "words"), DATA_FAULTS.values(), ids=DATA_FAULTS.keys())
def test_faults_of_data(
    red, recipe: Path, tmp_path: Path, split: str, change: Callable[[list[dict]], list[dict]], words: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number, name in enumerate(("train", "validation")):
        rows = sentences(40, number)
        lines = [json.dumps(row) for row in (change(rows) if name == split else rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    outcome = red("train", recipe, f"data.path={folder}")
    assert outcome.code == 2, outcome.err
    assert words in outcome.err
    assert str(folder) in outcome.err
    assert not (tmp_path / "run").exists()


def test_no_validation_split(red, recipe: Path, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "all.csv", sentences(40, 0))
    outcome = red("train", recipe, f"data.path={file}")
    assert outcome.code == 2
    assert "data.validation_share" in outcome.err


def test_a_model_folder_without_weights(red, recipe: Path, base: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "model.safetensors").unlink()
    outcome = red("train", recipe, f"model.name_or_path={bare}")
    assert outcome.code == 2
    assert str(bare) in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [("model.safetensors", b"garbage"), ("config.json", b'{"model_type": "bert", "num_hidden_layers": "x"}'),
     ("config.json", b"{"), ("tokenizer.json", b"{")],
)  # fmt: skip
def test_a_damaged_model_folder(red, recipe: Path, base: Path, tmp_path: Path, file: str, content: bytes) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    (broken / file).write_bytes(content)
    outcome = red("train", recipe, f"model.name_or_path={broken}")
    assert outcome.code == 2, outcome.err
    assert str(broken) in outcome.err
    assert len(outcome.err.splitlines()) <= 4
    assert not (tmp_path / "run").exists()


def test_a_head_of_another_task_starts_anew(red, recipe: Path, finished: Path, tmp_path: Path) -> None:
    assert red("export", finished, "-o", tmp_path / "two-labels").code == 0
    folder = tmp_path / "data"
    folder.mkdir()
    for number, name in enumerate(("train", "validation")):
        rows = [{**row, "label": f"class {index % 3}"} for index, row in enumerate(sentences(30, number))]
        write_csv(folder / f"{name}.csv", rows)
    options = [
        f"model.name_or_path={tmp_path / 'two-labels'}",
        f"data.path={folder}",
        f"output.dir={tmp_path / 'three'}",
    ]
    outcome = red("train", recipe, *options)
    assert outcome.code == 0, outcome.err


def test_weights_of_another_architecture(red, recipe: Path, base: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(base, mixed)
    shutil.copy(make_base(tmp_path / "other", "distilbert") / "model.safetensors", mixed)
    outcome = red("train", recipe, f"model.name_or_path={mixed}")
    assert outcome.code == 2
    assert "do not fit a bert model" in outcome.err


def test_an_unknown_architecture_shows_what_could_be_named(red, recipe: Path, base: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel

    other = tmp_path / "albert"
    shutil.copytree(base, other)
    AutoModel.from_config(
        AutoConfig.for_model(
            "albert", hidden_size=32, embedding_size=16, num_attention_heads=4, intermediate_size=64, vocab_size=23
        )
    ).save_pretrained(other)
    outcome = red("train", recipe, f"model.name_or_path={other}")
    assert outcome.code == 2
    assert "ffn_output" in outcome.err
    assert "red.target_modules" in outcome.err
    pattern = r"red.target_modules=.*\.ffn_output"
    assert red("train", recipe, f"model.name_or_path={other}", pattern).code == 0


def test_a_folder_with_something_else_in_it(red, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    outcome = red("train", recipe)
    assert outcome.code == 2
    assert "is not a run folder" in outcome.err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_folder_with_a_finished_run(red, recipe: Path, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    for again in ([], ["--resume"], ["train.seed=1"]):
        outcome = red("train", recipe, *again)
        assert outcome.code == 2
        assert "already holds a finished run" in outcome.err
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def damage_nan(run: Path) -> None:
    file = run / "adapter" / WEIGHTS_FILE
    tensors = load_file(file)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, file)


ADAPTER_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no adapter": (lambda run: shutil.rmtree(run / "adapter"), "has no adapter yet"),
    "truncated": (lambda run: (run / "adapter" / WEIGHTS_FILE).write_bytes(b"1234"), "damaged"),
    "not finite": (damage_nan, "not finite"),
    "no recipe": (lambda run: (run / "recipe.yaml").unlink(), "is not a run folder"),
}


@pytest.mark.parametrize(("damage", "words"), ADAPTER_FAULTS.values(), ids=ADAPTER_FAULTS.keys())
def test_faults_of_a_run(red, finished: Path, tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    run, merged = finished, tmp_path / "merged"
    damage(run)
    for command in (["eval", run], ["export", run, "--output", merged]):
        outcome = red(*command)
        assert outcome.code == 2, outcome.err
        assert words in outcome.err
    assert not merged.exists()


def test_an_adapter_and_another_base(red, finished: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", num_hidden_layers=2)
    outcome = red("eval", finished, f"model.name_or_path={other}")
    assert outcome.code == 2
    assert "num_hidden_layers 3 (here 2)" in outcome.err


def test_scoring_another_file_leaves_the_runs_figures(red, finished: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    other = write_csv(tmp_path / "new.csv", sentences(7, 9))
    result = red("eval", finished, f"data.path={other}", "--json").json
    assert result["examples"] == 7
    assert result["folder"] == str(finished / "evaluations" / "1")
    assert before == {path: path.read_bytes() for path in before}
    assert red("eval", finished, "red.layers=[0]").code == 2
    assert red("eval", finished, "task.labels=[positive, negative]").code == 2


def test_an_adapter_can_be_scored_and_then_exported(red, finished: Path, tmp_path: Path) -> None:
    adapter = finished / "adapter"
    assert red("eval", adapter).code == 0
    assert red("export", adapter, "-o", tmp_path / "named #1: x").code == 0
    assert (tmp_path / "named #1: x" / "README.md").is_file()
    assert red("eval", tmp_path / "named #1: x").code == 0
    (adapter / "metrics.json").write_text("[]")
    assert red("eval", adapter).code == 2


def test_eval_and_export_of_what_is_not_there(red, finished: Path, tmp_path: Path) -> None:
    assert red("eval", tmp_path / "nothing").code == 2
    outcome = red("eval", finished, "--split", "tset")
    assert outcome.code == 2
    assert "no tset split; there is" in outcome.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    outcome = red("export", finished, "--output", tmp_path / "full")
    assert outcome.code == 2
    assert "is not an empty folder" in outcome.err


def test_an_export_that_differs_is_no_export(
    red, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from red_cli.export import model as model_module

    real_write = model_module.write_shards

    def wrong_write(shards, folder: Path, progress) -> None:
        outputs = next(iter(shards.values()))
        outputs[:] = [
            replace(output, content=vector(output.name, np.ones(2, dtype=np.float32), "F32"))
            if output.name == "classifier.bias"
            else output
            for output in outputs
        ]
        real_write(shards, folder, progress)

    monkeypatch.setattr(model_module, "write_shards", wrong_write)
    outcome = red("export", finished, "--output", tmp_path / "merged")
    assert outcome.code == 1
    assert "differs from the adapter" in outcome.err
    assert not (tmp_path / "merged").exists()
    assert not list(tmp_path.glob(".merged*"))


def test_a_loss_that_is_not_finite_names_step_rows_and_checkpoint(red, recipe: Path, tmp_path: Path) -> None:
    outcome = red("train", recipe, "train.learning_rate=1e25", "train.save_steps=1", "train.max_grad_norm=null")
    assert outcome.code == 1
    assert "is not finite (training rows" in outcome.err
    assert "Last good checkpoint" in outcome.err
    good = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    assert all(torch.isfinite(tensor).all() for tensor in load_file(good / WEIGHTS_FILE).values())


def test_a_full_disk_is_the_users_to_mend(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing fails at each file of a run in turn; what is there stays whole, and the run goes on afterwards."""
    real_write, countdown = Path.write_bytes, [0]

    def write(path: Path, content: bytes) -> int:
        countdown[0] -= 1
        if countdown[0] == 0:
            real_write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    for fail_at in (1, 2, 3, 5):
        countdown[0] = fail_at
        outcome = red("train", recipe, "--resume")
        assert outcome.code == 2
        assert "no space left on the disk" in outcome.err
        assert str(tmp_path / "run") in outcome.err
        assert not [path for path in (tmp_path / "run").rglob("*") if path.name.endswith(".tmp")]
    assert red("train", recipe, "--resume").code == 0


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full", "x"), RuntimeError("I/O error: No space left on device (os error 28)")],
)
def test_libraries_say_full_disk_in_their_own_words(error: Exception) -> None:
    assert out_of_space(error) is not None
    assert out_of_space(RuntimeError("another")) is None
