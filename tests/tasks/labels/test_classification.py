"""Texts to tensors, labels to ids, logits to predictions and metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, strategies
from sklearn import metrics
from transformers import AutoTokenizer

from red_cli.recipe.sections import Columns, Data
from red_cli.recipe.tasks.glue import GLUE
from red_cli.tasks.base import Prediction
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.labels.metrics import class_scores, classification_metrics, regression_metrics
from red_cli.tasks.labels.targets import LabelTarget, RegressionTarget
from red_cli.tasks.labels.task import LabelTask
from red_cli.tasks.presets.glue import glue_task
from tests.failures import fails
from tests.tasks.bound import bound
from tests.tiny import make_data


def rows(**columns: list) -> Rows:
    return Rows(pa.table(columns), "data/train.csv")


def task(answers: LabelTarget | RegressionTarget | None = None, **columns: str) -> LabelTask:
    return LabelTask(
        Data(columns=Columns(**columns)), answers or LabelTarget(["no", "yes"], given=True), ("accuracy",), "accuracy"
    )


def test_batches_are_what_the_tokenizer_would_pad(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts, pairs = ["the film was good", "bad", "a story and a film"], ["so dull", "it was very very sweet", "fine"]
    encoder = bound(task(text_pair="other"), tokenizer)
    encoded = encoder.encode(rows(text=texts, other=pairs, label=["yes", "no", "yes"]))
    batch = encoder.collate(encoded, np.array([2, 0, 1]))
    order = [2, 0, 1]
    rows_ = [texts[i] for i in order], [pairs[i] for i in order]
    expected = tokenizer(*rows_, padding=True, return_tensors="pt")
    assert batch.inputs.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(batch.inputs[name], tensor), name
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 1, 0]
    assert batch.weight == 3


def test_long_rows_are_cut_and_counted(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    encoded = bound(task(), tokenizer, 8).encode(rows(text=["the " * 20, "good"], label=["yes", "no"]))
    assert encoded.lengths.tolist() == [8, 3]
    assert encoded.truncated == 1
    assert encoded.row(0).tolist()[-1] == tokenizer.sep_token_id


@pytest.mark.parametrize(
    ("values", "names"),
    [(["b", "a", "b"], ["a", "b"]), ([2, 0, 1], ["0", "1", "2"]), ([10, 9, 9], ["9", "10"]),
     ([True, False], ["false", "true"]), ([1.0, 0.0], ["0", "1"])],
)  # fmt: skip
def test_label_names_are_learnt(values: list, names: list[str]) -> None:
    labels = LabelTarget().fit(rows(label=values), "label")
    assert labels.names == names
    ids = labels.encode(rows(label=values), "label").tolist()
    assert [names[index] for index in ids] == [str(value).lower().removesuffix(".0") for value in values]


def test_given_names_serve_for_names_and_for_ids() -> None:
    labels = LabelTarget(["no", "yes"], given=True)
    assert labels.encode(rows(label=["yes", "no"]), "label").tolist() == [1, 0]
    assert labels.encode(rows(label=[1, 0]), "label").tolist() == [1, 0]
    assert labels.encode(rows(label=["1", "0"]), "label").tolist() == [1, 0]
    named = Rows(pa.table({"label": [1, 0, 2]}), "hub", label_names=["3", "1", "2"])
    assert LabelTarget(["1", "2", "3"], given=True).encode(named, "label").tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("found", "other"),
    [(["1.5", "2", "other"], [1.0, 3.0]), (["01", "02"], ["1", "2"]), (["1", "2"], ["0"]), (["a", "b"], [0, 1])],
)
def test_names_found_in_data_are_never_ids(found: list, other: list) -> None:
    labels = LabelTarget().fit(rows(label=found), "label")
    with fails("invalid-label", "row 1"):
        labels.encode(rows(label=other), "label")


def test_numbers_in_text_are_in_the_order_of_their_size() -> None:
    labels = LabelTarget().fit(rows(label=["10", "9", "none", "-1"]), "label")
    assert labels.names == ["-1", "9", "10", "none"]


FAULTS = {
    "null text": ({"text": ["good", None], "label": ["yes", "no"]}, "invalid-row", "row 2: column 'text' is null"),
    "number as text": ({"text": [1, 2], "label": ["yes", "no"]}, "invalid-row", "row 1: column 'text' is 1"),
    "no text column": ({"body": ["a", "b"], "label": ["yes", "no"]}, "column-not-found", "'text'"),
    "unknown label": (
        {"text": ["a", "b"], "label": ["yes", "maybe"]}, "invalid-label", "row 2: label 'maybe' is not one of: no, yes",
    ),
    "id out of range": ({"text": ["a", "b"], "label": [0, 2]}, "invalid-label", "row 2: label 2"),
    "null label": ({"text": ["a", "b"], "label": ["yes", None]}, "invalid-label", "row 2: label None"),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_of_rows(base: Path, columns: dict[str, list], code: str, fact: str) -> None:
    with fails(code, "data/train.csv", fact):
        bound(task(), AutoTokenizer.from_pretrained(base), 64).encode(rows(**columns))


LABEL_COLUMN_FAULTS = {
    "one label": (["a", "a"], "{'a'}"),
    "fractions": ([0.5, 1.0], "name: regression"),
    "lists": ([["a"], ["b"]], "row 1: label ['a']"),
    "all different": ([f"id{number}" for number in range(30)], "30 different values in 30 rows"),
}


@pytest.mark.parametrize(("values", "fact"), LABEL_COLUMN_FAULTS.values(), ids=LABEL_COLUMN_FAULTS.keys())
def test_faults_of_label_columns(values: list, fact: str) -> None:
    with fails("invalid-label", fact):
        LabelTarget().fit(rows(label=values), "label")


@pytest.mark.parametrize("values", [["x"], [None], [float("nan")], [True]])
def test_a_number_is_needed_for_regression(values: list) -> None:
    with fails("invalid-label", "row 1", "not a number"):
        RegressionTarget().encode(rows(label=values), "label")


def test_hidden_labels_are_no_labels(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    hiding = ([-1], [-1.0], ["-1"], [""], pa.array([None], pa.string()))
    for hidden in ({"text": ["a"]}, *({"text": ["a"], "label": label} for label in hiding)):
        assert bound(task(), tokenizer, 64).encode(rows(**hidden)).labels is None


def test_losses_are_sums_over_rows() -> None:
    logits = torch.randn(5, 3)
    labels = torch.tensor([0, 1, 2, 2, 1])
    each = -logits.log_softmax(-1)[torch.arange(5), labels]
    torch.testing.assert_close(LabelTarget(["a", "b", "c"]).loss(logits, labels), each.sum())
    numbers = torch.randn(5)
    torch.testing.assert_close(RegressionTarget().loss(logits[:, :1], numbers), (logits[:, 0] - numbers).square().sum())


def test_metrics_against_figures_worked_out_by_hand() -> None:
    # 2 true positives, 1 false positive, 1 false negative, 1 true negative
    actual, predicted = ["p", "p", "n", "p", "n"], ["p", "p", "p", "n", "n"]
    scores = classification_metrics(("accuracy", "f1", "matthews_correlation"), predicted, actual, ["n", "p"])
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert scores["matthews_correlation"] == pytest.approx((2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5)
    linear = regression_metrics(("pearson", "spearman"), [1.0, 2.0, 4.0], [10.0, 20.0, 40.0])
    assert linear == pytest.approx({"pearson": 1.0, "spearman": 1.0})
    ranked = regression_metrics(("pearson", "spearman"), [1.0, 2.0, 9.0], [1.0, 2.0, 3.0])
    assert ranked["spearman"] == pytest.approx(1.0)
    assert ranked["pearson"] < 0.95


@given(strategies.data(), strategies.integers(2, 5))
def test_metrics_are_those_of_scikit_learn(data: strategies.DataObject, count: int) -> None:
    names = [f"class {number}" for number in range(count)]
    classes = strategies.lists(strategies.sampled_from(names), min_size=1, max_size=30)
    actual = data.draw(classes)
    predicted = data.draw(strategies.lists(strategies.sampled_from(names), min_size=len(actual), max_size=len(actual)))
    options = {"labels": names, "zero_division": 0}
    expected = {
        "accuracy": metrics.accuracy_score(actual, predicted),
        "f1": metrics.f1_score(actual, predicted, average=None, **options)[1],
        "macro_f1": metrics.f1_score(actual, predicted, average="macro", zero_division=0),
        "matthews_correlation": metrics.matthews_corrcoef(actual, predicted),
    }
    if count > 2:
        expected["f1"] = expected["macro_f1"]
    scores = classification_metrics(tuple(expected), predicted, actual, names)
    assert scores == pytest.approx(expected, abs=1e-12)

    answers = [Prediction(guess, truth, None) for guess, truth in zip(predicted, actual, strict=True)]
    answers.append(Prediction("no label", actual[0], None))
    of_classes = metrics.precision_recall_fscore_support(
        [*actual, actual[0]], [*predicted, "no label"], average=None, **options
    )
    found = [(each.precision, each.recall, each.f1, each.rows) for each in class_scores(answers, names)]
    np.testing.assert_allclose(found, np.transpose(of_classes), rtol=0, atol=1e-12)


def test_a_constant_answer_scores_nothing() -> None:
    assert classification_metrics(("matthews_correlation",), ["p", "p"], ["p", "n"], ["n", "p"]) == {
        "matthews_correlation": 0.0
    }
    assert regression_metrics(("pearson",), [1.0, 1.0], [1.0, 2.0]) == {"pearson": 0.0}


def test_validation_rows_are_drawn_by_the_seed(tmp_path: Path) -> None:
    make_data(tmp_path)
    data = Data(train=str(tmp_path / "train.csv"), validation_share=0.25)
    drawn = [
        LabelTask(data, LabelTarget(), ("accuracy",), "accuracy").load(seed, ("train", "validation"))
        for seed in (1, 1, 2)
    ]
    sizes = {split: rows.table.num_rows for split, rows in drawn[0].rows.items()}
    assert sizes == {"train": 72, "validation": 24}
    assert drawn[0].rows["validation"].table == drawn[1].rows["validation"].table != drawn[2].rows["validation"].table
    both = drawn[0].rows["train"].table.to_pylist() + drawn[0].rows["validation"].table.to_pylist()
    whole = (
        LabelTask(Data(path=data.train), LabelTarget(), ("accuracy",), "accuracy")
        .load(1, ("train",))
        .rows["train"]
        .table.to_pylist()
    )
    assert sorted(map(str, both)) == sorted(map(str, whole))


@pytest.mark.parametrize("subset", GLUE)
def test_glue_comes_from_the_hub_or_from_local_files(subset: str) -> None:
    hub = glue_task(subset, Data(), None)
    assert (hub.data.path, hub.data.name) == ("nyu-mll/glue", subset)
    local = glue_task(subset, Data(path="here"), None)
    assert (local.data.path, local.data.name) == ("here", None)
    assert local.data.columns == hub.data.columns
    assert hub.metric in hub.metrics


@pytest.mark.parametrize(
    ("subset", "columns", "labels"),
    [("cola", ["sentence"], 2), ("mrpc", ["sentence1", "sentence2"], 2), ("qnli", ["question", "sentence"], 2),
     ("rte", ["sentence1", "sentence2"], 2), ("sst2", ["sentence"], 2)],
)  # fmt: skip
def test_glue_facts_fit_the_real_files(shared: Path, subset: str, columns: list[str], labels: int) -> None:
    glue = glue_task(subset, Data(path=str(shared / "data" / "glue" / subset)), None)
    for rows_ in glue.load(0, ("train", "validation")).rows.values():
        for column in columns:
            assert isinstance(rows_.column(column)[0], str)
        assert set(glue.target.encode(rows_, "label").tolist()) == set(range(labels))
