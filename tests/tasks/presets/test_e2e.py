"""E2E NLG: linearizations, columns and files, and scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import AutoTokenizer

from red_cli.recipe.metrics import E2E_METRICS, TextMetric
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Columns, Data, Model
from red_cli.recipe.tasks.e2e import E2eSettings
from red_cli.tasks.base import Prediction
from red_cli.tasks.presets.e2e import e2e_task, tabular
from red_cli.tasks.text.generation import GenerationTask
from red_cli.tasks.text_metrics import score as score_module
from red_cli.tasks.text_metrics.score import METRICS, score_texts
from red_cli.tasks.text_metrics.text_files import read_texts, write_texts
from tests.extras import needs_extra
from tests.failures import fails
from tests.tasks.bound import bound
from tests.tiny import make_language_model, tiny_config, write_csv

END = 3
ROWS = [
    {"mr": "name[Blue Spice], eatType[pub], priceRange[£20-25]", "ref": "Blue Spice is a pub."},
    {"mr": "name[Blue Spice], eatType[pub], priceRange[£20-25]", "ref": "The pub Blue Spice costs £20-25."},
    {"mr": "name[The Mill], familyFriendly[no]", "ref": "The Mill is for adults."},
]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(make_language_model(tmp_path_factory.mktemp("a") / "base", letters=True))


def task(data: Data | None = None, model_type: str = "gpt2", **settings: Any) -> GenerationTask:
    named = E2eSettings(name="e2e", **settings)
    recipe = Recipe(task=named, model=Model(name_or_path="base"), data=data or Data())
    return e2e_task(recipe, named, tiny_config(model_type), None)


TABLES = {
    "name[Blue Spice]": "name : Blue Spice",
    "name[Blue Spice], eatType[pub], area[city centre]": "name : Blue Spice | Type : pub | area : city centre",
    "priceRange[£20-25],customer rating[5 out of 5] , familyFriendly[yes]": (
        "price : £20-25 | customer rating : 5 out of 5 | family friendly : yes"
    ),
    " food[fish, chips], near[Café Adriatic] ": "food : fish, chips | near : Café Adriatic",
}


@pytest.mark.parametrize(("meaning", "expected"), TABLES.items())
def test_the_tabular_form(meaning: str, expected: str) -> None:
    assert tabular(meaning) == expected


@pytest.mark.parametrize("meaning", ["", "Blue Spice", "name[Blue", "name[a] food[b]", "name[a],", "[a]", "a[b], c"])
def test_what_is_no_meaning(meaning: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - it has no message
        tabular(meaning)


def test_tokens_of_both_forms(letters: Any, tmp_path: Path) -> None:
    """Meaning, end token, text, end token; with tables the text begins with a space."""
    data = Data(train=str(write_csv(tmp_path / "train.csv", ROWS)))

    def ids(text: str) -> list[int]:
        return letters(text, add_special_tokens=False)["input_ids"]

    for form, meaning, text in (
        ("published", ROWS[2]["mr"], ROWS[2]["ref"]),
        ("table", "name : The Mill | family friendly : no", " " + ROWS[2]["ref"]),
    ):
        written = task(data, linearization=form)
        encoded = bound(written, letters, 200).encode(written.load(0, ["train"]).rows["train"])
        prompt, completion = (part.tolist() for part in encoded.parts(2))
        assert prompt == [*ids(meaning), END]
        assert completion == [*ids(text), END]
        assert encoded.labels is not None
        assert encoded.labels[2] == len(completion)


def test_an_encoder_decoder_needs_no_separator(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_language_model(tmp_path / "base", "t5", letters=True))
    written = task(Data(train=str(write_csv(tmp_path / "train.csv", ROWS))), "t5")
    encoded = bound(written, tokenizer, 200).encode(written.load(0, ["train"]).rows["train"])
    prompt, completion = (part.tolist() for part in encoded.parts(2))
    assert prompt == tokenizer("name : The Mill | family friendly : no")["input_ids"]
    assert completion == tokenizer("The Mill is for adults.")["input_ids"]


def test_a_prompt_that_is_cut_keeps_its_separator(letters: Any, tmp_path: Path) -> None:
    written = task(Data(train=str(write_csv(tmp_path / "train.csv", ROWS))))
    encoded = bound(written, letters, 30).encode(written.load(0, ["train"]).rows["train"])
    prompt, completion = encoded.parts(2)
    assert prompt.tolist() == [*letters(": no", add_special_tokens=False)["input_ids"], END]
    assert len(completion) == 25
    assert (encoded.truncated, encoded.ends_cut) == (3, 1)


COLUMNS = {
    "of the Hub": ("meaning_representation", "human_reference", Columns()),
    "of the CSV files": ("mr", "ref", Columns()),
    "of the CSV file for the test": ("MR", "ref", Columns()),
    "named": ("meaning", "text", Columns(prompt="meaning", completion="text")),
}


@pytest.mark.parametrize(("meaning", "text", "named"), COLUMNS.values(), ids=COLUMNS.keys())
def test_columns(letters: Any, tmp_path: Path, meaning: str, text: str, named: Columns) -> None:
    file = write_csv(tmp_path / "train.csv", [{meaning: row["mr"], text: row["ref"]} for row in ROWS])
    written = task(Data(train=str(file), columns=named))
    rows = written.load(0, ["train"]).rows["train"]
    assert written.has_labels(rows, None)
    assert len(bound(written, letters, 200).encode(rows)) == 3
    lone = task(
        Data(train=str(write_csv(tmp_path / "test.csv", [{meaning: row["mr"]} for row in ROWS])), columns=named)
    )
    assert not lone.has_labels(lone.load(0, ["train"]).rows["train"], None)


def test_a_faulty_meaning_is_named(letters: Any, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "train.csv", [ROWS[0], {"mr": "Blue Spice", "ref": "A pub."}])
    written = task(Data(train=str(file)))
    rows = written.load(0, ["train"]).rows["train"]
    with fails("invalid-row", "train.csv, row 2: 'Blue Spice'", "task.linearization=published"):
        bound(written, letters, 200).encode(rows)
    raw = task(Data(train=str(file)), linearization="published")
    assert len(bound(raw, letters, 200).encode(raw.load(0, ["train"]).rows["train"])) == 2


def test_it_comes_from_the_hub_without_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*arguments: Any, **options: Any) -> dict[str, datasets.Dataset]:
        asked.append((arguments, options))
        columns = {
            "meaning_representation": [row["mr"] for row in ROWS],
            "human_reference": [row["ref"] for row in ROWS],
        }
        return {"train": datasets.Dataset.from_dict(columns)}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = task().load(0, ["train"]).rows["train"]
    assert asked == [(("tuetschek/e2e_nlg", None), {"revision": "refs/convert/parquet"})] * len(asked)
    assert rows.column("human_reference") == [row["ref"] for row in ROWS]


def answers(*texts: str) -> list[Prediction]:
    return [
        Prediction(text, f" {row['ref']}", prompt=tabular(row["mr"]), finished=True, loss=1.0, tokens=2)
        for text, row in zip(texts, ROWS, strict=True)
    ]


@needs_extra("nlg")
def test_an_input_counts_once_with_all_its_references(tmp_path: Path) -> None:
    scored = replace(task(), metrics=("loss", "perplexity", "BLEU", "NIST"))
    predictions = answers("Blue Spice is a pub.", "Blue Spice is a pub.", "The Mill is a pub.")
    texts, references = scored.generated_texts(predictions)
    assert texts == ["Blue Spice is a pub.", "The Mill is a pub."]
    assert references == [[ROWS[0]["ref"], ROWS[1]["ref"]], [ROWS[2]["ref"]]]
    scores = scored.score(predictions, None)
    assert scores.keys() == {"loss", "perplexity", "BLEU", "NIST", "unfinished"}
    expected = score_texts(texts, references, ["BLEU", "NIST"])
    assert {name: scores[name] for name in expected} == expected
    assert 0 < scores["BLEU"] < 1
    files = tmp_path / "texts", tmp_path / "references"
    write_texts(*files, ["two\nlines", ""], [["one", "two\r\nlines"], ["other"]])
    assert files[1].read_text() == "one\ntwo lines\n\nother\n"
    assert read_texts(*files) == (["two lines", ""], [["one", "two lines"], ["other"]])


@needs_extra("nlg")
def test_metrics_without_java_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_module, "find_java", lambda: None)
    scored = replace(task(), metrics=("loss", "perplexity", *E2E_METRICS))
    scores = scored.score(answers("Blue Spice is a pub.", "Blue Spice is a pub.", "The Mill."), None)
    assert scores.keys() == {"loss", "perplexity", "BLEU", "NIST", "unfinished"}


def test_every_metric_has_a_name_in_recipes() -> None:
    assert set(METRICS) == set(TextMetric.__args__)
