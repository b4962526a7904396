"""What a user can get wrong: one short message, exit code 2, nothing half-written."""

from __future__ import annotations

import errno
import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from red_cli.base_model.stored_tensor import stored_vector
from red_cli.distributed.deepspeed_config import deepspeed_config
from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.errors import UserError, out_of_space
from red_cli.recipe.sections import Launch
from red_cli.recipe.train_section import Train
from red_cli.train import checkpoint
from tests.conftest import Outcome
from tests.extras import cases
from tests.tiny import make_base, sentences, write_csv

# name -> (arguments of `red train` after the recipe, code, what the message names)
TRAIN_FAULTS = {
    "misspelt key": (["train.lerning_rate=1"], "unknown-key", "train.learning_rate?"),
    "metrics of labels": (["eval.metrics=[BLEU]"], "conflicting-keys", "eval.metrics"),
    "samples of labels": (["eval.samples=3"], "conflicting-keys", "eval.samples"),
    "weights of no classes": (
        ["task={name: glue, subset: stsb}", "eval.metric=null", "train.class_weights=balanced"],
        "conflicting-keys",
        "train.class_weights",
    ),
    "such weights": (["train.class_weights=balance"], "invalid-value", "balanced"),
    "a weight of nothing": (["train.class_weights={positive: 0}"], "invalid-value", "greater than 0"),
    "wrong type": (["train.seed=x"], "invalid-value", "train.seed"),
    "no such variant": (["--variant", "large"], "unknown-variant", "'large'"),
    "no such model folder": (["model.name_or_path=/no/model"], "base-not-found", "/no/model"),
    "model not on the Hub": (["model.name_or_path=some/model"], "base-not-found", "some/model"),
    "no such data": (["data.path=/no/data"], "file-not-found", "/no/data"),
    "no such column": (["data.columns.text=review"], "column-not-found", "'review'"),
    "no such label column": (["data.columns.label=stars"], "column-not-found", "'stars'"),
    "no such layer": (["red.layers=[9]"], "unsupported-model", "layers 0 to 2"),
    "nothing matches": (["red.target_modules=x"], "unsupported-model", "red.target_modules"),
    "too long": (["data.max_length=1000"], "too-long", "64 tokens"),
    "no such tracker": (["train.report_to=[tensorbord]"], "unknown-name", "tensorboard?"),
    "tracker not installed": (["train.report_to=[swanlab]"], "missing-dependency", "pip install swanlab"),
    "seed too large": (["train.seed=99999999999999999999"], "invalid-value", "less than 4294967296"),
    "endless": (["train.num_train_epochs=.inf"], "invalid-value", "train.num_train_epochs"),
    "label twice": (["task.labels=[a, b, a]"], "invalid-value", "task.labels"),
    "no such path": (["data.path=~nobody123/x"], "file-not-found", "~nobody123/x"),
    "shorter than anything": (["data.max_length=2"], "too-long", "3 tokens"),
    "the paper's cut of other data": (["eval.split=paper"], "conflicting-keys", "eval.split"),
    "no such split rule": (["eval.split=papr"], "invalid-value", "nearest: paper"),
    "a drawn validation set to cut": (
        ["task={name: glue, subset: rte}", "eval.split=paper", "data.validation_share=0.1"],
        "conflicting-keys",
        "data.validation_share",
    ),
    "metric of numbers for labels": (["eval.metric=pearson"], "conflicting-keys", "accuracy, f1, matthews_correlation"),
    "metric of labels for numbers": (
        ["task={name: glue, subset: stsb}", "eval.metric=f1"],
        "conflicting-keys",
        "pearson, spearman",
    ),
    "dropping everything": (["model.classifier_dropout=1.0"], "invalid-value", "less than 1"),
    "more processes than devices": (["launch.num_processes=4096"], "invalid-launch", "4096"),
    "no such strategy": (["launch.strategy=zero1"], "invalid-value", "auto, single, ddp, zero2, zero3 or fsdp"),
    "several processes as one": (
        ["launch.strategy=single", "launch.num_processes=2"],
        "conflicting-keys",
        "launch.strategy: single",
    ),
    "a rank without a machine": (["launch.machine_rank=1"], "conflicting-keys", "launch.machine_rank"),
    "no main machine": (["launch.num_machines=2"], "conflicting-keys", "launch.main_process_ip"),
    "uneven machines": (
        ["launch.num_machines=2", "launch.main_process_ip=x", "launch.num_processes=3"],
        "conflicting-keys",
        "launch.num_processes",
    ),
    "spread and quantised": (
        ["launch.strategy=zero3", "model.quantization=4bit"],
        "conflicting-keys",
        "launch.strategy: zero3",
    ),
    "offload of nothing": (["launch.strategy=ddp", "launch.offload=true"], "conflicting-keys", "launch.offload"),
    "shards of a whole base": (["launch.shard_size=2"], "conflicting-keys", "launch.shard_size"),
    "shards that do not come out even": (
        ["launch.strategy=fsdp", "launch.num_processes=4", "launch.shard_size=3"],
        "conflicting-keys",
        "launch.shard_size",
    ),
    "a configuration without DeepSpeed": (
        ["launch.deepspeed_config=x.json"],
        "conflicting-keys",
        "launch.deepspeed_config",
    ),
    "no such configuration": (
        ["launch.strategy=zero2", "launch.deepspeed_config=/no.json"],
        "file-not-found",
        "/no.json",
    ),
    "nothing to spread": (["launch.strategy=fsdp", "method=full"], "conflicting-keys", "launch.strategy: fsdp"),
    "labels given wrongly": (["task.labels=[good, bad]"], "invalid-label", "row 1"),
}


@pytest.mark.parametrize(("arguments", "code", "fact"), cases(TRAIN_FAULTS, {"no such configuration": "deepspeed"}))
def test_faults_of_a_recipe(red, recipe: Path, tmp_path: Path, arguments: list[str], code: str, fact: str) -> None:
    outcome = red("train", recipe, *arguments, "--json")
    assert outcome.code == 2, outcome.err
    error = outcome.json["error"]
    assert [fault["code"] for fault in error.get("faults", [error])] == [code]
    assert outcome.err.startswith("error: ")
    assert fact in outcome.err
    assert len(outcome.err.splitlines()) <= 4
    assert not (tmp_path / "run").exists()


# content of a DeepSpeed configuration -> code, what the message names after the file
CONFIGURATION_FAULTS = {
    "an optimiser": ({"optimizer": {"type": "Adam"}}, "invalid-launch", "optimizer: "),
    "half precision": ({"bf16": {"enabled": True}}, "invalid-launch", "bf16: "),
    "another stage": ({"zero_optimization": {"stage": 3}}, "invalid-launch", "zero_optimization.stage is 3"),
    "another batch": ({"train_batch_size": 16}, "invalid-launch", "train_batch_size is 16, but train.batch_size is 32"),
    "a micro-batch": ({"train_micro_batch_size_per_gpu": 4}, "invalid-launch", "train_micro_batch_size_per_gpu is 4"),
    "accumulation": ({"gradient_accumulation_steps": 2}, "invalid-launch", "gradient_accumulation_steps: "),
    "another norm": ({"gradient_clipping": 0.5}, "invalid-launch", "gradient_clipping is 0.5"),
    "other gradients": ({"data_types": {"grad_accum_dtype": "bf16"}}, "invalid-launch", "data_types: "),
    "other rows": ({"elasticity": {"enabled": True}}, "invalid-launch", "elasticity: "),
    "a list": ([1], "unsupported-file", ""),
}


@pytest.mark.parametrize(("content", "code", "fact"), CONFIGURATION_FAULTS.values(), ids=CONFIGURATION_FAULTS.keys())
def test_faults_of_a_deepspeed_configuration(tmp_path: Path, content: object, code: str, fact: str) -> None:
    path = tmp_path / "deepspeed.json"
    path.write_text(json.dumps(content))
    launch = Launch(strategy="zero2", deepspeed_config=str(path))
    with pytest.raises(UserError) as caught:
        deepspeed_config(launch, "zero2", Train())
    assert caught.value.code == code
    assert caught.value.message.startswith(f"{path}: {fact}")


def test_a_strategy_without_its_extra(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "deepspeed" else found(name))
    outcome = red("train", recipe, "launch.strategy=zero3", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "missing-dependency")
    assert "pip install 'red-finetune[deepspeed]'" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_once: tuple[Path, Outcome]
) -> None:
    """The checkpoint that no longer fits does not exist, and the run resumes from the previous one."""
    real = checkpoint.write_bytes

    def full(path: Path, content: bytes) -> None:
        if "step-12" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    outcome = red("train", recipe, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "disk-full")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-6"]
    monkeypatch.setattr(checkpoint, "write_bytes", real)
    assert red("train", recipe).code == 0
    one, other = (load_file(run / "adapter" / WEIGHTS_FILE) for run in (tmp_path / "run", finished_once[0]))
    assert all(torch.equal(one[key], other[key]) for key in one)


def null_text(rows: list[dict]) -> list[dict]:
    return [*rows, {**rows[0], "text": None}]


# name -> (split, change of its rows, code, what the message names)
DATA_FAULTS: dict[str, tuple[str, Callable[[list[dict]], list[dict]], str, str]] = {
    "null text": ("train", null_text, "invalid-row", "row 41: column 'text'"),
    "null text in validation": ("validation", null_text, "invalid-row", "row 41: column 'text'"),
    "label not seen in training": (
        "validation",
        lambda rows: [*rows, {**rows[0], "label": "mixed"}],
        "invalid-label",
        "row 41: label 'mixed'",
    ),
    "one label": ("train", lambda rows: [{**row, "label": "same"} for row in rows], "invalid-label", "train.jsonl"),
    "no label column": ("train", lambda rows: [{"text": row["text"]} for row in rows], "column-not-found", "'label'"),
    "empty split": ("validation", lambda rows: [], "no-rows", "validation.jsonl"),
}


@pytest.mark.parametrize(("split", "change", "code", "fact"), DATA_FAULTS.values(), ids=DATA_FAULTS.keys())
def test_faults_of_data(
    red, recipe: Path, tmp_path: Path, split: str, change: Callable[[list[dict]], list[dict]], code: str, fact: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number, name in enumerate(("train", "validation")):
        rows = sentences(40, number)
        lines = [json.dumps(row) for row in (change(rows) if name == split else rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    outcome = red("train", recipe, f"data.path={folder}", "--json")
    assert outcome.code == 2, outcome.err
    assert outcome.json["error"]["code"] == code
    assert fact in outcome.err
    assert str(folder) in outcome.err
    assert not (tmp_path / "run").exists()


def test_no_validation_split(red, recipe: Path, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "all.csv", sentences(40, 0))
    outcome = red("train", recipe, f"data.path={file}", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "split-not-found")
    assert "data.validation_share" in outcome.err


def test_a_model_folder_without_weights(red, recipe: Path, base: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "model.safetensors").unlink()
    outcome = red("train", recipe, f"model.name_or_path={bare}", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "base-not-found")
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
    outcome = red("train", recipe, f"model.name_or_path={broken}", "--json")
    assert outcome.code == 2, outcome.err
    error = outcome.json["error"]
    assert error["code"] == "base-not-found"
    assert str(broken) in error["message"]
    assert len(error["message"].splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_head_of_another_task_is_initialised(red, recipe: Path, finished: Path, tmp_path: Path) -> None:
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
    outcome = red("train", recipe, f"model.name_or_path={mixed}", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "file-damaged")
    assert str(mixed) in outcome.err


def test_an_unknown_architecture_shows_what_could_be_named(red, recipe: Path, base: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel

    other = tmp_path / "albert"
    shutil.copytree(base, other)
    AutoModel.from_config(
        AutoConfig.for_model(
            "albert", hidden_size=32, embedding_size=16, num_attention_heads=4, intermediate_size=64, vocab_size=23
        )
    ).save_pretrained(other)
    outcome = red("train", recipe, f"model.name_or_path={other}", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "unsupported-model")
    assert "ffn_output" in outcome.err
    assert "red.target_modules" in outcome.err
    pattern = r"red.target_modules=.*\.ffn_output"
    assert red("train", recipe, f"model.name_or_path={other}", pattern).code == 0


def test_a_folder_with_a_finished_run(red, recipe: Path, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    for again in ([], ["--resume"]):
        assert red("train", recipe, *again, "--json").json["folder"] == str(finished)
    outcome = red("train", recipe, "train.seed=1", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "different-recipe")
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def damage_nan(run: Path) -> None:
    file = run / "adapter" / WEIGHTS_FILE
    tensors = load_file(file)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, file)


# name -> (damage, code, what the message names)
ADAPTER_FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no adapter": (lambda run: shutil.rmtree(run / "adapter"), "run-unfinished", "run"),
    "truncated": (
        lambda run: (run / "adapter" / WEIGHTS_FILE).write_bytes(b"1234"),
        "file-damaged",
        WEIGHTS_FILE,
    ),
    "not finite": (damage_nan, "file-damaged", "not finite"),
    "no recipe": (lambda run: (run / "recipe.yaml").unlink(), "not-a-run", "recipe.yaml"),
}


@pytest.mark.parametrize(("damage", "code", "fact"), ADAPTER_FAULTS.values(), ids=ADAPTER_FAULTS.keys())
def test_faults_of_a_run(
    red, finished: Path, tmp_path: Path, damage: Callable[[Path], object], code: str, fact: str
) -> None:
    run, merged = finished, tmp_path / "merged"
    damage(run)
    for command in (["eval", run], ["export", run, "--output", merged]):
        outcome = red(*command, "--json")
        assert outcome.code == 2, outcome.err
        error = outcome.json["error"]
        assert error["code"] == code
        assert str(run) in error["message"]
        assert fact in error["message"]
    assert not merged.exists()


def test_an_adapter_and_another_base(red, finished: Path, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", num_hidden_layers=2)
    outcome = red("eval", finished, f"model.name_or_path={other}", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "base-mismatch")
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


def test_eval_and_export_of_missing_folders_and_splits(red, finished: Path, tmp_path: Path) -> None:
    assert red("eval", tmp_path / "nothing").code == 2
    outcome = red("eval", finished, "--split", "tset", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "split-not-found")
    assert "tset" in outcome.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    outcome = red("export", finished, "--output", tmp_path / "full", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "output-exists")


def test_an_export_that_differs_is_deleted(
    red, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from red_cli.export import exported_model as model_module

    real_write = model_module.write_shards

    def wrong_write(shards, folder: Path, progress) -> None:
        outputs = next(iter(shards.values()))
        outputs[:] = [
            replace(output, content=stored_vector(output.name, np.ones(2, dtype=np.float32), "F32"))
            if output.name == "classifier.bias"
            else output
            for output in outputs
        ]
        real_write(shards, folder, progress)

    monkeypatch.setattr(model_module, "write_shards", wrong_write)
    outcome = red("export", finished, "--output", tmp_path / "merged", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (1, "verification-failed")
    assert not (tmp_path / "merged").exists()
    assert not list(tmp_path.glob(".merged*"))


def test_a_loss_that_is_not_finite_names_step_rows_and_checkpoint(red, recipe: Path, tmp_path: Path) -> None:
    keys = ["train.learning_rate=1e25", "train.save_steps=1", "train.max_grad_norm=null"]
    outcome = red("train", recipe, *keys, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (1, "run-not-finite")
    good = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert outcome.err.splitlines()[-2].startswith(f"error: step {last['step']}: ")
    assert f"(training rows {', '.join(map(str, last['rows'][:8]))}" in outcome.err
    assert str(good) in outcome.err
    assert all(torch.isfinite(tensor).all() for tensor in load_file(good / WEIGHTS_FILE).values())


def test_a_full_disk_is_a_user_error(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing fails at each file of a run in turn; existing files stay complete, and the run resumes afterwards."""
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
        outcome = red("train", recipe, "--resume", "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, "disk-full")
        assert str(tmp_path / "run") in outcome.err
        assert not [path for path in (tmp_path / "run").rglob("*") if path.name.endswith(".tmp")]
    assert red("train", recipe, "--resume").code == 0


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full", "x"), RuntimeError("I/O error: No space left on device (os error 28)")],
)
def test_a_full_disk_reported_by_a_library(error: Exception) -> None:
    assert out_of_space(error) is not None
    assert out_of_space(RuntimeError("another")) is None
