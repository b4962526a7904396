"""Recipes: variants, overrides, and faults with their lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from red_cli.errors import UserError
from red_cli.recipe.keys import key_paths
from red_cli.recipe.load import load_recipe
from red_cli.recipe.schema import resolved
from red_cli.recipe.yaml_file import dump, parse_value

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


# change to the text -> (line, key, words of the message)
FAULTS = {
    "unknown key": (("learning_rate:", "lerning_rate:"), 7, "train.lerning_rate", "Did you mean train.learning_rate?"),
    "beginning of a key": (("name_or_path", "name"), 4, "model.name", "Did you mean model.name_or_path?"),
    "key of another section": (
        ("task:", "num_train_epochs: 3\ntask:"),
        2,
        "num_train_epochs",
        "train.num_train_epochs",
    ),
    "word for a number": (("1e-3", "fast"), 7, "train.learning_rate", "expected a number or auto, got 'fast'"),
    "number for a word": (("org/model", "12"), 4, "model.name_or_path", "expected text"),
    "negative": (("1e-3", "-1"), 7, "train.learning_rate", "greater than 0"),
    "unknown choice": (("classification", "clasification"), 2, "task", "nearest: classification"),
    "missing": (("  name_or_path: org/model", "  revision: main"), 3, "model.name_or_path", "required"),
    "twice": (("  learning_rate: 1e-3", "  seed: 1\n  seed: 2"), 8, "train.seed", "given twice"),
    "in a variant": (("num_train_epochs", "num_epochs"), 13, "train.num_epochs", "train.num_train_epochs"),
    "section is no mapping": (("data: {path: org/data}", "data: org/data"), 5, "data", "keys and values"),
    "contradiction": (("1e-3", "1e-3\n  warmup_ratio: 0.1\n  warmup_steps: 5"), 9, "train.warmup_steps", "not both"),
    "no data": (("data: {path: org/data}\n", ""), None, "data", "name the data"),
    "metric": (("train:", "eval: {metric: pearson}\ntrain:"), 6, "eval.metric", "scored by accuracy"),
}


@pytest.mark.parametrize(("change", "line", "key", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_names_file_line_and_key(
    path: Path, change: tuple[str, str], line: int | None, key: str, words: str
) -> None:
    assert change[0] in TEXT
    path.write_text(TEXT.replace(*change))
    with pytest.raises(UserError) as error:
        load_recipe(str(path))
    where = f"{path}, line {line}: {key}: " if line else f"{path}: {key}: "
    assert [text for text in str(error.value).splitlines() if where in text and words in text]


def test_all_faults_are_told_at_once(path: Path) -> None:
    path.write_text(TEXT.replace("1e-3", "x").replace("classification", "chess").replace("org/model", "3"))
    with pytest.raises(UserError) as error:
        load_recipe(str(path), None, ["train.seed=x", "nonsense"])
    assert len(re.findall(r"^  ", str(error.value), re.MULTILINE)) == 5


FILE_FAULTS = {
    "empty": ("", "the file is empty"),
    "list": ("- a\n", "expected keys and values"),
    "not YAML": ("task: {name\n", "line"),
}


@pytest.mark.parametrize(("text", "words"), FILE_FAULTS.values(), ids=FILE_FAULTS.keys())
def test_a_file_that_is_no_recipe(path: Path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("name", "variant", "words"),
    [
        ("glue_sts2", None, "Did you mean"),
        ("missing/file.yaml", None, "no such file"),
        ("glue_sst2", "roberta", "It has: "),
    ],
)
def test_what_does_not_exist(name: str, variant: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_recipe(name, variant)


def test_every_key_is_listed_once() -> None:
    keys = key_paths()
    assert len(keys) == len(set(keys))
    assert {"train.learning_rate", "red.positions", "data.columns.text", "task.subset"} <= set(keys)
