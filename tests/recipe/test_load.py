"""Recipes: variants, overrides, and faults with their lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from red_cli.errors import UserError
from red_cli.recipe.load import load_recipe
from red_cli.recipe.schema import key_paths, resolved
from red_cli.recipe.yaml_file import dump, parse_value
from tests.failures import codes, fault_at

TEXT = """# Sentiment.
task: {name: classification}
model:
  name_or_path: org/model
data: {path: org/data}
train:
  learning_rate: 1e-3
  max_grad_norm: null
variants:
  small: {}
  large:
    model: {name_or_path: org/larger}
    train: {num_train_epochs: 10}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "sentiment.yaml"
    file.write_text(TEXT)
    return file


def test_variants_merge_key_by_key(path: Path) -> None:
    plain, large = load_recipe(str(path)), load_recipe(str(path), "large")
    assert plain.recipe == load_recipe(str(path), "small").recipe
    assert large.recipe.model.name_or_path == "org/larger"
    assert large.recipe.train.num_train_epochs == 10
    assert large.recipe.train.learning_rate == plain.recipe.train.learning_rate == 1e-3
    assert str(plain.run_folder) == "runs/sentiment-seed42"
    assert str(large.run_folder) == "runs/sentiment-large-seed42"


def test_overrides_come_last_and_split_at_the_first_equals_sign(path: Path) -> None:
    overrides = ["train.num_train_epochs=2", "red.target_modules=a=b", "train.seed=7", "data.path=x/y=z"]
    recipe = load_recipe(str(path), "large", overrides).recipe
    assert recipe.train.num_train_epochs == 2
    assert recipe.red.target_modules == "a=b"
    assert recipe.train.seed == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1.0e-2", 0.01), ("no", "no"), ("true", True), ("[a, 2]", ["a", 2]), ("null", None),
     ("2024-01-01", "2024-01-01"), ("08", "08"), ("-3", -3), ("'5'", "5"), ("{a: 1}", {"a": 1}), ("", None)],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_what_is_written_is_read_back(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(path), None, ["task.labels=['no', '1e-3', 'true', '5']"]).recipe
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump(resolved(recipe)))
    assert load_recipe(str(copy)).recipe == recipe
    assert recipe.train.max_grad_norm is None


def test_local_paths_start_at_the_recipe_and_overrides_where_one_is(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_data").mkdir()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "other_data").mkdir(parents=True)
    path.write_text(TEXT.replace("org/data", "my_data"))
    monkeypatch.chdir(elsewhere)
    assert load_recipe(str(path)).recipe.data.path == str(tmp_path / "my_data")
    changed = load_recipe(str(path), overrides=["data.path=other_data"]).recipe
    assert changed.data.path == str(elsewhere / "other_data")
    assert changed.model.name_or_path == "org/model"


# name -> (change to the text, line, key, code, what the message contains)
FAULTS = {
    "unknown key": (
        ("learning_rate:", "lerning_rate:"), 7, "train.lerning_rate", "unknown-key", "train.learning_rate?"
    ),
    "beginning of a key": (("name_or_path", "name"), 4, "model.name", "unknown-key", "model.name_or_path?"),
    "key of another section": (
        ("task:", "num_train_epochs: 3\ntask:"), 2, "num_train_epochs", "unknown-key", "train.num_train_epochs?"
    ),
    "word for a number": (("1e-3", "fast"), 7, "train.learning_rate", "invalid-value", "or auto, got 'fast'"),
    "number for a word": (("org/model", "12"), 4, "model.name_or_path", "invalid-value", "text"),
    "negative": (("1e-3", "-1"), 7, "train.learning_rate", "invalid-value", "0"),
    "unknown choice": (("classification", "clasification"), 2, "task", "invalid-value", "nearest: classification"),
    "missing": (("  name_or_path: org/model", "  revision: main"), 3, "model.name_or_path", "missing-key", ""),
    "twice": (("  learning_rate: 1e-3", "  seed: 1\n  seed: 2"), 8, "train.seed", "invalid-yaml", "twice"),
    "in a variant": (
        ("num_train_epochs", "num_epochs"), 13, "train.num_epochs", "unknown-key", "train.num_train_epochs"
    ),
    "section is no mapping": (("data: {path: org/data}", "data: org/data"), 5, "data", "invalid-value", ""),
    "contradiction": (
        ("1e-3", "1e-3\n  warmup_ratio: 0.1\n  warmup_steps: 5"), 9, "train.warmup_steps", "conflicting-keys",
        "warmup_ratio",
    ),
    "no data": (("data: {path: org/data}\n", ""), None, "data", "conflicting-keys", "data.path"),
    "metric": (("train:", "eval: {metric: pearson}\ntrain:"), 6, "eval.metric", "conflicting-keys", "accuracy"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "line", "key", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_names_file_line_and_key(
    path: Path, change: tuple[str, str], line: int | None, key: str, code: str, fact: str
) -> None:
    assert change[0] in TEXT
    path.write_text(TEXT.replace(*change, 1))
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    fault = fault_at(caught.value, key)
    assert (fault["where"], fault["code"]) == (f"{path}, line {line}" if line else str(path), code)
    assert fact in fault["message"]


def test_all_faults_are_reported_at_once(path: Path) -> None:
    path.write_text(TEXT.replace("1e-3", "x").replace("classification", "chess").replace("org/model", "3"))
    with pytest.raises(UserError) as caught:
        load_recipe(str(path), None, ["train.seed=x", "nonsense"])
    assert codes(caught.value) == ["invalid-option", *["invalid-value"] * 4]
    assert len(re.findall(r"^  ", str(caught.value), re.MULTILINE)) == 5


FILE_FAULTS = {"empty": ("", ""), "list": ("- a\n", ", line 1"), "not YAML": ("task: {name\n", ", line 2")}


@pytest.mark.parametrize(("text", "place"), FILE_FAULTS.values(), ids=FILE_FAULTS.keys())
def test_a_file_that_is_no_recipe(path: Path, text: str, place: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    assert caught.value.code == "invalid-yaml"
    assert caught.value.message.startswith(f"{path}{place}: ")


@pytest.mark.parametrize(
    ("name", "variant", "code", "hint"),
    [
        ("glue_sts2", None, "recipe-not-found", "glue_sst2"),
        ("missing/file.yaml", None, "recipe-not-found", "red recipes"),
        ("glue_rte:roberta-large", None, "recipe-not-found", "glue_rte --variant roberta-large"),
        ("glue_sst2", "roberta", "unknown-variant", "roberta-large"),
    ],
)
def test_what_does_not_exist(name: str, variant: str | None, code: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(name, variant)
    assert caught.value.code == code
    assert hint in (caught.value.hint or "")


def test_every_key_is_listed_once() -> None:
    keys = key_paths()
    assert len(keys) == len(set(keys))
    assert {"train.learning_rate", "red.positions", "data.columns.text", "task.subset"} <= set(keys)
