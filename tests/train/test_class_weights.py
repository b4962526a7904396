"""`train.class_weights`: the loss of a step is torch's weighted mean over its rows, however they are split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from red_cli.plan.prepare import Prepared, prepare
from red_cli.recipe.load import load_recipe
from red_cli.tasks.labels.class_weights import class_weights
from tests.failures import assert_failed, fails
from tests.tiny import make_language_model, read_lines
from tests.train.started import largest_difference, losses, train

WEIGHTS = "train.class_weights={negative: 3.0, positive: 0.25}"
T2T = "task={name: classification, text_to_text: true}"


def prepared(recipe: Path, *keys: str) -> Prepared:
    return prepare(load_recipe(str(recipe), None, list(keys)).recipe)


def loss_in_pieces(task: Prepared, model: torch.nn.Module, size: int) -> torch.Tensor:
    """The loss of the first 24 training rows, accumulated as a step accumulates it, over pieces of `size` rows."""
    encoded = task.encoded["train"]
    batches = [task.encoder.collate(encoded, np.arange(24)[start : start + size]) for start in range(0, 24, size)]
    return sum(task.encoder.loss(model, batch) for batch in batches) / sum(batch.weight for batch in batches)


def class_ids(task: Prepared) -> list[int]:
    assert task.label_names is not None
    encoded = task.encoded["train"]
    return [task.label_names.index(str(task.encoder.show(encoded, row).label)) for row in range(24)]


@pytest.mark.parametrize("size", [24, 7, 1])
def test_the_loss_of_a_head_is_the_weighted_mean_of_torch(recipe: Path, size: int) -> None:
    task = prepared(recipe, WEIGHTS)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(task.base.config).eval()
    batch = task.encoder.collate(task.encoded["train"], np.arange(24))
    expected = torch.nn.CrossEntropyLoss(weight=torch.tensor([3.0, 0.25]))(model(**batch.inputs).logits, batch.labels)
    assert batch.labels.tolist() == class_ids(task)
    assert len(set(class_ids(task))) == 2
    assert loss_in_pieces(task, model, size).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("size", [24, 7, 1])
def test_the_loss_of_answers_as_text_is_the_weighted_mean_over_their_tokens(
    recipe: Path, tmp_path: Path, size: int
) -> None:
    base = make_language_model(tmp_path / "t5", "t5", letters=True)
    task = prepared(recipe, WEIGHTS, T2T, f"model.name_or_path={base}")
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(task.base.config).eval()
    batch = task.encoder.collate(task.encoded["train"], np.arange(24))
    logits = model(**batch.inputs).logits
    by_token = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.labels, reduction="none")
    weights = torch.tensor([3.0, 0.25])[class_ids(task)][:, None] * (batch.labels != -100)
    expected = (by_token * weights).sum() / weights.sum()
    assert loss_in_pieces(task, model, size).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("labels", ["aab", "aaaaaaaaab", "abc", "aabccc"])
def test_balanced_weights_are_those_of_scikit_learn(labels: str) -> None:
    names = sorted(set(labels))
    expected = compute_class_weight("balanced", classes=np.array(names), y=list(labels))
    found = class_weights("balanced", {name: labels.count(name) for name in names})
    assert found == pytest.approx(dict(zip(names, expected, strict=True)))
    assert class_weights("balanced", {**dict.fromkeys(names, 4), "none of these": 0})["none of these"] == 1.0


def test_labels_without_a_weight_count_one_and_others_are_refused() -> None:
    assert class_weights({"b": 2.0}, {"a": 5, "b": 1}) == {"a": 1.0, "b": 2.0}
    with fails("labels-mismatch", "'Spam'", "Did you mean spam?"):
        class_weights({"Spam": 2.0}, {"ham": 5, "spam": 1})


def test_a_weighted_run_is_recorded_and_does_not_depend_on_micro_batches(red, recipe: Path, tmp_path: Path) -> None:
    runs = {}
    for name, keys in {
        "plain": [],
        "whole": ["train.class_weights=balanced"],
        "split": ["train.class_weights=balanced", "train.micro_batch_size=3"],
        "alike": ["train.class_weights={negative: 2.0, positive: 2.0}"],
    }.items():
        runs[name] = tmp_path / name
        outcome = red("train", recipe, *keys, "model.dropout=0.0", f"output.dir={runs[name]}")
        assert outcome.code == 0, outcome.err
    assert "class_weights: balanced" in (runs["whole"] / "recipe.yaml").read_text()
    assert losses(runs["whole"]) == pytest.approx(losses(runs["split"]), rel=1e-5)
    assert largest_difference(runs["whole"], runs["split"]) < 1e-4
    assert largest_difference(runs["whole"], runs["plain"]) > 1e-4
    assert losses(runs["alike"]) == pytest.approx(losses(runs["plain"]), rel=1e-5)
    scores = [line.keys() for line in read_lines(runs["whole"] / "log.jsonl") if "validation_accuracy" in line]
    assert scores


def test_unknown_labels_end_the_check(red, recipe: Path) -> None:
    faulty = red("check", recipe, "train.class_weights={negativ: 2.0}", "--json")
    assert_failed(faulty, "labels-mismatch", "train.class_weights", "Did you mean negative?")


@pytest.mark.slow  # starts several processes
def test_two_processes_weigh_the_same(red, recipe: Path, tmp_path: Path) -> None:
    keys = ["train.class_weights=balanced", "model.dropout=0.0", "train.micro_batch_size=3"]
    assert red("train", recipe, *keys, f"output.dir={tmp_path / 'one'}").code == 0
    code, _, err = train(recipe, tmp_path / "two", *keys, "launch.num_processes=2")
    assert code == 0, err
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-5)
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-4
