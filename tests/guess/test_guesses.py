"""What is guessed from a data file: the task, its columns, and what is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from red_cli.errors import UserError
from red_cli.guess.recipe_file import recipe_of_file
from red_cli.guess.siblings import split_files_around
from red_cli.recipe.load import load_recipe
from tests.failures import fails

TEXT = [f"the parcel number {index} came far too late again" for index in range(60)]
OTHER = [
    f"nobody answers my question {index} about the bill, which is a very long story to tell" for index in range(60)
]
TOPIC = [["bill", "parcel", "bill", "other"][index % 4] for index in range(60)]
LEVEL = [["low", "high", "middle"][index % 3] for index in range(60)]
CITY = [f"city{index // 2}" for index in range(60)]
SCORE = [f"{index / 7:.3f}" for index in range(60)]
STARS = [str(1 + index % 5) for index in range(60)]
ID = [str(10_000 + index) for index in range(60)]
CODE = [f"A{index:04d}" for index in range(60)]
DAY = [f"2024-03-{1 + index % 28:02d}" for index in range(60)]
TALK = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Sorry."}] for text in TEXT]
SHAREGPT = [[{"from": "human", "value": text}, {"from": "gpt", "value": "Sorry."}] for text in TEXT]

# Columns of a file -> the task and its columns; overrides, if there are any
GUESSES: dict[str, tuple[dict[str, Any], str, dict[str, str], tuple[str, ...]]] = {
    "text and label": ({"text": TEXT, "label": TOPIC}, "classification", {"text": "text", "label": "label"}, ()),
    "a class named as its column": ({"text": TEXT, "bill": TOPIC}, "classification",
                                    {"text": "text", "label": "bill"}, ()),
    "few rows": ({"text": TEXT[:3], "label": ["a", "b", "a"]}, "classification",
                 {"text": "text", "label": "label"}, ()),
    "ids and dates are no labels": (
        {"id": ID, "day": DAY, "code": CODE, "message": TEXT, "topic": TOPIC},
        "classification", {"text": "message", "label": "topic"}, ()),
    "a name decides between labels": (
        {"message": TEXT, "channel": LEVEL, "intent": TOPIC}, "classification",
        {"text": "message", "label": "intent"}, ()),
    "numbers of classes with their names": (
        {"text": TEXT, "label": [str(["bill", "parcel", "other"].index(name)) for name in TOPIC], "label_text": TOPIC},
        "classification", {"text": "text", "label": "label"}, ()),
    "a long tail is no label": ({"text": TEXT, "city": CITY, "kind": TOPIC}, "classification",
                                {"text": "text", "label": "kind"}, ()),
    "whole numbers are classes": ({"review": TEXT, "stars": STARS}, "classification",
                                  {"text": "review", "label": "stars"}, ()),
    "fractions are regression": ({"review": TEXT, "score": SCORE}, "regression",
                                 {"text": "review", "label": "score"}, ()),
    "a given label": ({"message": TEXT, "channel": LEVEL, "intent": TOPIC}, "classification",
                      {"text": "message", "label": "channel"}, ("data.columns.label=channel",)),
    "a template": ({"question": TEXT, "answer": OTHER}, "generation", {"completion": "answer"},
                   ("task.prompt_template='Q: {question}\\nA: '",)),
    "a given task": ({"review": TEXT, "stars": STARS}, "regression", {"text": "review", "label": "stars"},
                     ("task.name=regression",)),
    "a pair by name": ({"premise": TEXT, "hypothesis": OTHER, "label": TOPIC}, "classification",
                       {"text": "premise", "text_pair": "hypothesis", "label": "label"}, ()),
    "a pair by number": ({"satz_1": TEXT, "satz_2": OTHER, "label": TOPIC}, "classification",
                         {"text": "satz_1", "text_pair": "satz_2", "label": "label"}, ()),
    "a text and a note": ({"text": TEXT, "note": OTHER, "label": TOPIC}, "classification",
                          {"text": "text", "label": "label"}, ()),
    "prompt and completion": ({"prompt": TEXT, "completion": OTHER}, "generation",
                              {"prompt": "prompt", "completion": "completion"}, ()),
    "a preferred completion": ({"prompt": TEXT, "chosen": OTHER, "rejected": TEXT}, "generation",
                               {"prompt": "prompt", "completion": "chosen"}, ()),
    "question and answer": ({"id": ID, "question": TEXT, "answer": OTHER}, "generation",
                            {"prompt": "question", "completion": "answer"}, ()),
    "question and a label": ({"question": TEXT, "answer": OTHER, "label": TOPIC}, "classification",
                             {"text": "question", "label": "label"}, ()),
    "instruction and output": ({"instruction": TEXT, "input": [""] * 60, "output": OTHER}, "instruction",
                               {"instruction": "instruction", "output": "output", "input": "input"}, ()),
    "instruction and response": ({"instruction": TEXT, "context": OTHER, "response": OTHER, "category": TOPIC},
                                 "instruction",
                                 {"instruction": "instruction", "output": "response", "input": "context"}, ()),
    "messages": ({"messages": TALK, "source": LEVEL}, "instruction", {"messages": "messages"}, ()),
    "ShareGPT": ({"conversations": SHAREGPT}, "instruction", {"messages": "conversations"}, ()),
    "messages of another name": ({"chat": TALK}, "instruction", {"messages": "chat"}, ()),
    "messages as JSON": ({"dialog": list(map(json.dumps, TALK))}, "instruction", {"messages": "dialog"}, ()),
}  # fmt: skip

# Columns of a file -> overrides, the code of the error, and what it names
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...], str, tuple[str, ...]]] = {
    "two labels": ({"text": TEXT, "channel": LEVEL, "kind": TOPIC}, (), "cannot-guess",
                   ("channel", "kind", "data.columns.label=")),
    "two named labels": ({"text": TEXT, "topic": TOPIC, "sentiment": LEVEL}, (), "cannot-guess",
                         ("topic", "sentiment", "data.columns.label=")),
    "two texts": ({"first": TEXT, "second": TEXT[::-1], "label": TOPIC}, (), "cannot-guess",
                  ("first", "second", "data.columns.text=", "data.columns.text_pair=")),
    "no label": ({"id": ID, "text": TEXT, "city": CITY}, (), "cannot-guess", ("city", "data.columns.label=")),
    "no header": ({"bill": TOPIC, "this is a text": TEXT}, (), "cannot-guess", ("bill", "text,label")),
    "no text": ({"id": ID, "label": TOPIC}, (), "cannot-guess", ("data.columns.text=",)),
    "an unknown column": ({"text": TEXT, "label": TOPIC}, ("data.columns.label=lable",), "column-not-found",
                          ("lable", "label")),
    "a task of published data": ({"text": TEXT, "label": TOPIC}, ("task={name: glue, subset: rte}",), "cannot-guess",
                                 ("glue", "classification")),
    "a wrong key": ({"text": TEXT, "label": TOPIC}, ("train.learning_rat=1",), "unknown-key", ("learning_rat",)),
    "a wrong delimiter": ({"text": TEXT, "label": TOPIC}, ("data.delimiter=ab",), "invalid-value", ("delimiter",)),
}  # fmt: skip


def rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def write_csv(path: Path, columns: dict[str, Any], delimiter: str = ",") -> None:
    with io.StringIO() as text:
        writer = csv.DictWriter(text, columns, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows_of(columns))
        content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)


def write_jsonl(path: Path, columns: dict[str, Any]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows_of(columns)))


def write_json(path: Path, columns: dict[str, Any]) -> None:
    path.write_text(json.dumps(rows_of(columns)))


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)


def guessed(path: Path, *overrides: str) -> tuple[str, dict[str, str]]:
    """The task of a file's recipe and its columns."""
    recipe = load_recipe(str(recipe_of_file(path, overrides).path)).recipe
    return recipe.task.name, recipe.data.columns.model_dump(exclude_none=True)


@pytest.mark.parametrize("case", GUESSES)
def test_guess(case: str, tmp_path: Path) -> None:
    columns, task, expected, overrides = GUESSES[case]
    write_jsonl(tmp_path / "rows.jsonl", columns)
    assert guessed(tmp_path / "rows.jsonl", *overrides) == (task, expected)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_nothing_written(case: str, tmp_path: Path) -> None:
    columns, overrides, code, facts = REFUSED[case]
    write_csv(tmp_path / "rows.csv", columns)
    with pytest.raises(UserError) as caught:
        recipe_of_file(tmp_path / "rows.csv", overrides)
    assert code in {caught.value.code, *(fault["code"] for fault in caught.value.faults)}
    assert all(fact in str(caught.value) for fact in facts)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.csv", write_csv),
        ("rows.tsv", lambda path, columns: write_csv(path, columns, "\t")),
        ("rows.csv.gz", write_csv),
        ("semicolons.csv", lambda path, columns: write_csv(path, columns, ";")),
        ("rows.json", write_json),
        ("rows.jsonl", write_jsonl),
        ("rows.parquet", write_parquet),
    ],
)
def test_each_format(name: str, write: Callable[[Path, dict[str, Any]], None], tmp_path: Path) -> None:
    write(tmp_path / name, {"nr": ID, "message": TEXT, "topic": TOPIC})
    found = recipe_of_file(tmp_path / name, ())
    assert found.path == tmp_path / f"{name.partition('.')[0]}.yaml"
    recipe = load_recipe(str(found.path)).recipe
    assert (recipe.data.train, recipe.data.columns.label) == (str(tmp_path / name), "topic")
    assert recipe.data.delimiter == (";" if name == "semicolons.csv" else None)


@pytest.mark.parametrize("override", ["data.delimiter=;", "data={delimiter: ;}"])
def test_a_delimiter_is_given_in_any_form(tmp_path: Path, override: str) -> None:
    write_csv(tmp_path / "rows.csv", {"text": TEXT, "label": TOPIC}, ";")
    with fails("invalid-recipe", "data.delimiter"):
        recipe_of_file(tmp_path / "rows.csv", (override.replace(";", "ab"),))
    assert load_recipe(str(recipe_of_file(tmp_path / "rows.csv", (override,)).path)).recipe.data.delimiter == ";"


def test_the_recipe_is_kept_and_no_other_file_overwritten(tmp_path: Path) -> None:
    data = tmp_path / "tickets.csv"
    write_csv(data, {"message": TEXT, "topic": TOPIC})
    (tmp_path / "tickets.yaml").write_text("services: {web: {}}\n")
    (tmp_path / "tickets-2.yaml").write_text(
        "task: {name: classification}\nmodel: {name_or_path: x}\ndata: {train: y}\n"
    )
    found = recipe_of_file(data, ("model.name_or_path=some/base", "train.seed=3", "data.max_length=64"))
    recipe = load_recipe(str(found.path)).recipe
    assert (found.path.name, found.reused) == ("tickets-3.yaml", False)
    # the data, the task and the base stay in the recipe, the rest is for one run
    assert (recipe.model.name_or_path, recipe.data.max_length, recipe.train.seed) == ("some/base", 64, 42)
    found.path.write_text(found.path.read_text().replace("batch_size: 16", "batch_size: 8"))
    assert recipe_of_file(data, ()).reused
    assert load_recipe(str(found.path)).recipe.train.batch_size == 8
    write_csv(data, {"message": TEXT, "subject": TOPIC})  # the column of the recipe is gone
    assert (recipe_of_file(data, ()).path.name, (tmp_path / "tickets.yaml").read_text()) == (
        "tickets-4.yaml",
        "services: {web: {}}\n",
    )


@pytest.mark.parametrize(
    ("named", "others", "expected", "name"),
    [
        ("train.csv", ["validation.csv", "test.csv"], {"validation": "validation.csv", "test": "test.csv"}, None),
        ("train.jsonl", ["dev.jsonl.gz", "notes.txt"], {"validation": "dev.jsonl.gz"}, None),
        ("mails_train.csv", ["mails_val.csv", "other_val.csv"], {"validation": "mails_val.csv"}, "mails"),
        ("mails.csv", ["mails-test.csv", "test.csv"], {"test": "mails-test.csv"}, "mails"),
        ("training.csv", ["test.csv"], {}, "training"),
    ],
)
def test_siblings(named: str, others: list[str], expected: dict[str, str], name: str | None, tmp_path: Path) -> None:
    for file in (named, *others):
        (tmp_path / file).touch()
    found = split_files_around(tmp_path / named)
    assert ({split: path.name for split, path in found.others.items()}, found.name) == (expected, name or tmp_path.name)


def test_siblings_are_read_and_a_test_file_is_no_training_file(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        columns = {"message": TEXT, "topic": TOPIC}
        write_csv(tmp_path / f"{split}.csv", columns if split != "test" else {"message": TEXT})
    data = load_recipe(str(recipe_of_file(tmp_path / "train.csv", ()).path)).recipe.data
    assert (data.validation, data.test) == (str(tmp_path / "valid.csv"), str(tmp_path / "test.csv"))
    assert data.validation_share is None
    with fails("cannot-guess", "train.csv"):
        recipe_of_file(tmp_path / "test.csv", ())


def test_uneven_classes_and_rows_without_a_label(tmp_path: Path) -> None:
    topics = ["rare" if index < 4 else "" if index > 56 else TOPIC[index] for index in range(60)]
    write_csv(tmp_path / "rows.csv", {"message": TEXT, "topic": topics})
    recipe = load_recipe(str(recipe_of_file(tmp_path / "rows.csv", ()).path)).recipe
    assert (recipe.eval.metric, recipe.data.bad_rows, recipe.data.validation_share) == (None, "drop", 0.2)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("model: {name_or_path: base, trust_remote_code: true}", "code"),
        ('model: {name_or_path: base}\noutput: {dir: "runs/${HANDED_OVER}"}', "variables"),
    ],
)
def test_a_recipe_that_came_with_the_file_gives_no_consent(
    lines: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDED_OVER", "secret-place")
    data = tmp_path / "tickets.csv"
    write_csv(data, {"message": TEXT, "topic": TOPIC})
    columns = "columns: {text: message, label: topic}"
    theirs = f"task: {{name: classification}}\ndata: {{train: tickets.csv, {columns}}}\n{lines}\n"
    (tmp_path / "tickets.yaml").write_text(theirs)
    found = recipe_of_file(data, ())
    assert (found.reused, found.path.name) == (False, "tickets-2.yaml")
    assert any(why in value for _, value in found.lines)
    assert "secret-place" not in f"{found.lines} {found.path.read_text()}"


def test_a_guessed_recipe_has_paths_without_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWS_OF_OTHERS", str(tmp_path))
    for name in ("tickets", "held-out"):
        write_csv(tmp_path / f"{name}.csv", {"message": TEXT, "topic": TOPIC})
    given = ("data.validation=$ROWS_OF_OTHERS/held-out.csv", "data.columns.text_pair=null")
    recipe = recipe_of_file(tmp_path / "tickets.csv", given).path
    assert load_recipe(str(recipe)).recipe.data.validation == str(tmp_path / "held-out.csv")
