"""Train, evaluate and export through the command line, on tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from red_cli.edit.adapter_config import WEIGHTS_FILE
from tests.conftest import Outcome
from tests.extras import needs_extra
from tests.tiny import make_base, read_lines, sentences, write_csv


def adapter_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / WEIGHTS_FILE)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_train_eval_export_agree(red, recipe: Path, tmp_path: Path) -> None:
    """One family from end to end; tests/edit and tests/export cover the other families."""
    run, merged = tmp_path / "run", tmp_path / "merged"
    trained = red("train", recipe, "train.learning_rate=2e-2", "train.num_train_epochs=5", "--json").json
    assert trained["parameters"]["edited"] == 2 * 32 * 3
    losses = [line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line]
    assert sum(losses[-6:]) < sum(losses[:6])
    evaluated = red("eval", run, "--json").json
    assert evaluated["split"] == "test"
    assert evaluated["examples"] == 40
    exported = red("export", run, "--output", merged, "--json").json
    assert exported["largest_difference"] < 1e-4
    assert exported["equal_answers"] == 1
    again = red("eval", merged, "--json").json
    assert again["scores"] == evaluated["scores"]
    answers = read_lines(run / "predictions" / "test.jsonl")
    assert [row["prediction"] for row in answers] == [
        row["prediction"] for row in read_lines(merged / "predictions" / "test.jsonl")
    ]
    right = sum(row["prediction"] == row["label"] for row in answers)
    assert right / len(answers) == evaluated["scores"]["accuracy"]


def test_the_files_of_a_run_folder(finished_once: tuple[Path, Outcome]) -> None:
    run, outcome = finished_once
    names = {path.name for path in run.iterdir()}
    assert names == {"recipe.yaml", "adapter", "checkpoints", "log.jsonl", "metrics.json", "predictions",
                     "environment.json", "output_spread.json", "README.md"}  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["training"]["steps"] == 12
    log = read_lines(run / "log.jsonl")
    assert [line["step"] for line in log if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in log if "validation_accuracy" in line] == [6, 12]
    assert metrics["best"]["value"] == max(line.get("validation_accuracy", 0) for line in log)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step-6", "step-12"}
    assert not list(run.rglob("*.tmp"))
    for words in ("accuracy", "parameters", "peak memory", str(run), "red eval", "red export"):
        assert words in outcome.out
    assert len(outcome.out.splitlines()) < 45


def test_an_exported_model_does_not_need_red(red, finished: Path, tmp_path: Path) -> None:
    assert red("export", finished, "--output", tmp_path / "merged").code == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert not [name for name in model.state_dict() if ".red." in name]
    assert tokenizer("the good film")["input_ids"][0] == tokenizer.cls_token_id
    card = (tmp_path / "merged" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "logits differ from the adapter's by at most" in card


def test_the_same_seed_or_the_resolved_recipe_repeats_a_run(red, recipe: Path, finished: Path, tmp_path: Path) -> None:
    first = adapter_of(finished)
    for name, given in {"again": recipe, "resolved": finished / "recipe.yaml"}.items():
        assert red("train", given, f"output.dir={tmp_path / name}").code == 0
        assert same(first, adapter_of(tmp_path / name))
    assert red("train", recipe, f"output.dir={tmp_path / 'other'}", "train.seed=43").code == 0
    assert not same(first, adapter_of(tmp_path / "other"))


def test_micro_batches_do_not_change_the_training(red, recipe: Path, tmp_path: Path) -> None:
    """Global batches of 20 rows, the last of an epoch smaller, in micro-batches of 16, 5 or 1 rows."""
    losses = []
    for size in (16, 5, 1):
        run = tmp_path / f"micro-{size}"
        options = ["model.dropout=0.0", "train.batch_size=20", "data.max_train_rows=36"]
        where = [f"output.dir={run}", f"train.micro_batch_size={size}"]
        assert red("train", recipe, *options, *where).code == 0
        losses.append([line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line])
    assert len(losses[0]) == 4
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-4)


def test_regression_on_pairs(red, recipe: Path, tmp_path: Path, data: Path) -> None:
    columns = "data.columns={text: text, text_pair: text_pair, label: score}"
    outcome = red("train", recipe, "task={name: regression}", "eval.metric=null", columns, "train.num_train_epochs=6",
                  "train.learning_rate=3e-2", "--json")  # fmt: skip
    scores = outcome.json["splits"]["validation"]
    assert scores.keys() == {"examples", "pearson", "spearman"}
    assert scores["pearson"] > 0.1
    evaluated = red("eval", tmp_path / "run", "--json").json
    red("export", tmp_path / "run", "-o", tmp_path / "merged")
    assert red("eval", tmp_path / "merged", "--json").json["scores"] == pytest.approx(evaluated["scores"], abs=1e-5)


def test_mnli_reports_both_validation_splits(red, recipe: Path, base: Path, tmp_path: Path) -> None:
    labels = ["entailment", "neutral", "contradiction"]
    folder = tmp_path / "mnli"
    folder.mkdir()
    for seed, split in enumerate(("train", "validation_matched", "validation_mismatched", "test_matched")):
        rows = [
            {
                "premise": row["text"],
                "hypothesis": row["text_pair"],
                "label": -1 if split.startswith("test") else index % 3,
            }
            for index, row in enumerate(sentences(30, seed))
        ]
        write_csv(folder / f"{split}.csv", rows)
    options = (f"model.name_or_path={base}", f"data.path={folder}", f"output.dir={tmp_path / 'run'}",
               "train.num_train_epochs=1", "train.micro_batch_size=8", "data.max_length=32")  # fmt: skip
    splits = red("train", "glue_mnli", *options, "--json").json["splits"]
    assert splits.keys() == {"validation_matched", "validation_mismatched"}
    outcome = red("eval", tmp_path / "run", "--split", "test_matched", "--json").json
    assert outcome["scores"] is None
    answers = read_lines(tmp_path / "run" / "predictions" / "test_matched.jsonl")
    assert len(answers) == 30
    assert {row["prediction"] for row in answers} <= set(labels)
    assert {row["label"] for row in answers} == {None}
    default = red("eval", tmp_path / "run", "--json").json
    assert (default["split"], default["scores"]["accuracy"]) == (
        "validation_matched",
        splits["validation_matched"]["accuracy"],
    )


def test_an_adapter_folder_is_scored_with_a_recipe(red, recipe: Path, finished: Path, tmp_path: Path) -> None:
    expected = red("eval", finished, "--json").json["scores"]
    lone = tmp_path / "elsewhere" / "adapter"
    lone.parent.mkdir()
    (finished / "adapter").rename(lone)
    assert red("eval", lone, "--json").json["error"]["code"] == "not-a-run"
    assert red("eval", lone, "--recipe", recipe, "--json").json["scores"] == expected


OPTIONS = {
    "gradient checkpointing, cosine, own head rate, random order": [
        "train.gradient_checkpointing=true", "train.lr_scheduler_type=cosine", "train.warmup_steps=3",
        "train.head_learning_rate=1e-3", "train.group_by_length=false",
    ],
    "bfloat16 autocast, no clipping, validation share": [
        "train.bf16=true", "train.max_grad_norm=null", "data.path=null", "data.train={data}/train.csv",
        "data.validation_share=0.2",
    ],
    "bfloat16 base, found micro-batch": ["model.dtype=bfloat16", "train.micro_batch_size=null"],
    "bias alone in the last layer": ["red.components=[bias]", "red.layers='2:'"],
}  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_options_train_eval_and_export(red, recipe: Path, data: Path, tmp_path: Path, options: list[str]) -> None:
    given = [*(option.format(data=data) for option in options), "train.num_train_epochs=1"]
    outcome = red("train", recipe, *given, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["training"]["steps"] > 0
    assert red("eval", tmp_path / "run", "--split", "validation", "--json").json["scores"] == pytest.approx(
        {name: value for name, value in outcome.json["splits"]["validation"].items() if name != "examples"}
    )
    assert red("export", tmp_path / "run", "-o", tmp_path / "merged").code == 0


def test_early_stopping_and_evaluation_by_steps(red, recipe: Path, tmp_path: Path) -> None:
    options = ["train.num_train_epochs=50", "train.learning_rate=1e-9", "train.eval_steps=2", "train.max_steps=40",
               "train.early_stopping_patience=3", "train.save_steps=5"]  # fmt: skip
    result = red("train", recipe, *options, "--json").json
    assert result["training"]["steps"] == 8  # the first evaluation, after 2 steps, stays the best
    assert result["best"]["step"] == 2
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"step-5"}


@needs_extra("track")
def test_tensorboard_logs_the_run(red, recipe: Path, tmp_path: Path) -> None:
    assert red("train", recipe, "train.report_to=[tensorboard]").code == 0
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_a_pooler_without_weights_in_the_checkpoint_trains_with_the_head(red, recipe: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    base = make_base(tmp_path / "base")
    weights = {name: tensor for name, tensor in load_file(base / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    result = red("train", recipe, f"model.name_or_path={base}", "--json").json
    assert result["parameters"]["head"] == 32 * 32 + 32 + 32 * 2 + 2
    assert red("export", tmp_path / "run", "-o", tmp_path / "merged").code == 0


def test_check_needs_no_weights_and_predicts_the_run(
    red, recipe: Path, base: Path, tmp_path: Path, finished_once: tuple[Path, Outcome]
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "model.safetensors").unlink()
    plan = red("check", recipe, f"model.name_or_path={bare}", "--json").json["plan"]
    trained = json.loads((finished_once[0] / "metrics.json").read_text())
    assert not (tmp_path / "run").exists()
    assert plan["counts"] == {key: trained["parameters"][key] for key in ("edited", "head", "base")}
    assert plan["total_steps"] == trained["training"]["steps"]
    assert plan["examples"][0]["tokens"][0] == "[CLS]"
    assert {"rows", "median", "longest", "truncated"} <= plan["lengths"]["train"].keys()
    assert plan["memory"]["base"] == plan["counts"]["base"] * 4
    assert plan["memory"]["activations_per_row"] > 0
    shown = red("check", recipe).out
    for words in ("192 edited", "66 head", "12 of 16 rows", "[CLS]"):
        assert words in shown
