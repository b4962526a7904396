"""`red predict` keeps every row of a file as it stands, says why some have no prediction, and resumes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from red_cli.commands.prediction_screen import print_answers
from red_cli.errors import UserError
from red_cli.inference import input_file, partial_answers, predict_file
from red_cli.inference.answers import Answer, AnswerForm
from red_cli.inference.input_columns import find_columns
from red_cli.inference.input_file import open_input
from red_cli.inference.output_file import write_rows
from red_cli.recipe.load import load_recipe
from red_cli.recipe.yaml_file import dump, parse_value
from red_cli.runs.open_trained import open_with_any_recipe
from tests.conftest import Outcome, write_recipe
from tests.failures import assert_failed
from tests.tiny import make_base, make_language_model

Red = Callable[..., Outcome]
TEXTS = ["good fine film", "the dull story", "", "bad and sour", "it was bright"]
CELLS = [["007", TEXTS[0], "2024-01-02"], ["1.10", TEXTS[1], 'say "so"\n, twice'], ["", TEXTS[2], "\tx "],
         ["é", TEXTS[3], "'"], ["1e5", TEXTS[4], ""]]  # fmt: skip
NEW = ["prediction", "probability", "p_negative", "p_positive", "problem"]


def read_csv(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file, delimiter=delimiter))


def write_table(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([["id", "text", "note"], *CELLS])
    path.write_bytes(text.getvalue().encode(encoding))
    return path


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig")])
def test_cells_of_a_table_stay_as_they_are(
    red: Red, finished_once: tuple[Path, Outcome], tmp_path: Path, delimiter: str, encoding: str
) -> None:
    source, output = write_table(tmp_path / "in.csv", delimiter, encoding), tmp_path / "out.csv"
    outcome = red("predict", finished_once[0], source, "-o", output, "--json")
    assert outcome.code == 0, outcome.err
    header, *rows = read_csv(output, delimiter)
    assert header == ["id", "text", "note", *NEW]
    assert [row[:3] for row in rows] == CELLS
    assert [row[3] in ("negative", "positive") for row in rows] == [True, True, False, True, True]
    assert [bool(row[-1]) for row in rows] == [False, False, True, False, False]
    for row in rows[:2]:
        assert float(row[4]) == max(float(row[5]), float(row[6]))
    assert output.read_bytes().startswith(b"\xef\xbb\xbf") == (encoding == "utf-8-sig")
    assert (outcome.json["rows"], outcome.json["predicted"]) == (5, 4)
    assert outcome.json["problems"] == [{"reason": "an empty text", "rows": 1, "first_rows": [3], "predicted": False}]


def test_predictions_are_those_of_red_eval(red: Red, finished: Path, data: Path, tmp_path: Path) -> None:
    assert red("eval", finished, "--split", "test").code == 0
    expected = [json.loads(line) for line in (finished / "predictions" / "test.jsonl").read_text().splitlines()]
    lines = red("predict", finished, data / "test.csv", "-o", tmp_path / "out.jsonl")
    assert lines.code == 0, lines.err
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["prediction"] for row in found] == [row["prediction"] for row in expected]
    assert [row["probability"] for row in found] == pytest.approx([row["probability"] for row in expected], abs=1e-5)


def test_every_format_is_read_and_written(red: Red, finished_once: tuple[Path, Outcome], tmp_path: Path) -> None:
    """The same predictions come out of each, and own values keep their text or their type."""
    run, objects = finished_once[0], tmp_path / "a.jsonl"
    lines = ['{"text":"good fine film",  "n": 1.10}', '{"text": null, "prediction": [1]}', '{"text": "bad \\ud83d"}',
             "{}", '{"text": 7, "n": {"a": 1}}']  # fmt: skip
    objects.write_text("\n".join(lines) + "\n")
    table = pa.table({"text": pa.array(["good fine film", None]).dictionary_encode(), "n": pa.array([1, 2], pa.int8())})
    pq.write_table(table.replace_schema_metadata({"huggingface": "{}", "mine": "1"}), tmp_path / "b.parquet")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"text\ngood fine film\n\nbad\n"))
    (tmp_path / "d.txt").write_text("good fine film\n\n")
    (tmp_path / "e.tsv").write_text('text\tn\ngood fine film\t"x\n')
    out = tmp_path / "out.jsonl"
    assert red("predict", run, objects, "-o", out).code == 0
    written = out.read_text().splitlines()
    assert all(new.startswith(old.removesuffix("}")) for new, old in zip(written, lines, strict=True))
    first, *others = map(json.loads, written)
    label = first["prediction_2"]
    assert [row["prediction_2"] is None for row in others] == [True, True, True, False]
    for name, rows in {"a.jsonl": 5, "b.parquet": 2, "c.csv.gz": 3, "d.txt": 2, "e.tsv": 1}.items():
        for ending in (".parquet", ".tsv", ".csv.gz"):
            target = tmp_path / f"{name}{ending}"
            assert red("predict", run, tmp_path / name, "-o", target).code == 0
            if ending == ".parquet":
                found = pq.read_table(target)
                assert found.num_rows == rows
                column = "prediction_2" if name == "a.jsonl" else "prediction"
                assert found.column(column).to_pylist()[0] == label
    kept = pq.read_table(tmp_path / "b.parquet.parquet")
    assert kept.schema.types[:2] == table.schema.types
    assert kept.schema.metadata == {b"mine": b"1"}
    assert (tmp_path / "e.tsv.tsv").read_text().splitlines()[1].startswith('good fine film\t"x\t')


@pytest.mark.parametrize(
    ("values", "kept"),
    [([2**53, 0.5], [float(2**53), 0.5]), ([2**53 + 1, 0.5], ["9007199254740993", "0.5"]), ([2**63 - 1, None], None),
     ([-(2**60), 1], None), ([2**63, 1], ["9223372036854775808", "1"]), ([-(2**63) - 1, 0.5, "a"],
      ["-9223372036854775809", "0.5", '"a"'])],
)  # fmt: skip
def test_no_number_is_lost_in_parquet(tmp_path: Path, values: list[object], kept: list[object] | None) -> None:
    """What no Arrow type holds becomes JSON text."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text("".join(json.dumps({"text": "a", "n": value, "\ud800": 1}) + "\n" for value in values))
    opened = open_input(source, None, None)
    answered = ((part, [["x"]] * len(part)) for part in opened.parts())
    with target.open("wb") as stream:
        write_rows(opened, {"prediction": str}, answered, ".parquet", stream)
    written = pq.read_table(target)
    assert written.column("n").to_pylist() == (values if kept is None else kept)
    assert written.column_names == ["text", "n", "\\ud800", "prediction"]


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2)))
def test_any_cells_come_back(rows: list[list[str]]) -> None:
    """Whatever cells a CSV file has, the output has them, in their order, with the new ones behind."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.csv", Path(folder) / "out.csv"
        with source.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["a", "a"], *rows])
        opened = open_input(source, ",", None)
        answered = ((part, [["x", None]] * len(part)) for part in opened.parts())
        with target.open("wb") as stream:
            write_rows(opened, {"prediction": str, "problem": str}, answered, ".csv", stream)
        assert read_csv(target) == [["a", "a", "prediction", "problem"], *([*row, "x", ""] for row in rows)]


def test_a_stopped_prediction_resumes(
    red: Red, finished_once: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its second part, with a line cut short, it leaves no output; resumed, it predicts the rest alone."""
    for module in (input_file,):
        monkeypatch.setattr(module, "PART", 2)
    source, whole, output = write_table(tmp_path / "in.csv"), tmp_path / "whole.csv", tmp_path / "out.csv"
    assert red("predict", finished_once[0], source, "-o", whole).code == 0
    predictor = predict_file.RowPredictor
    answers, parts = predictor.answers, []

    def stopping(self: object, table: pa.Table, resumable: object) -> list[Answer]:
        parts.append(table.num_rows)
        if len(parts) == 2:
            raise KeyboardInterrupt
        return answers(self, table, resumable)

    monkeypatch.setattr(predictor, "answers", stopping)
    assert red("predict", finished_once[0], source, "-o", output).code == 130
    partial = tmp_path / "out.csv.partial.jsonl"
    assert not output.exists()
    with partial.open("a") as file:
        file.write('["positive", [0.1')
    outcome = red("predict", finished_once[0], source, "-o", output, "--json")
    assert outcome.json["resumed_rows"] == 2
    assert parts == [2, 2, 2, 1]
    assert output.read_bytes() == whole.read_bytes()
    assert not partial.exists()
    assert partial_answers.PartialAnswers(partial, "another", [2]).open() == 0


@pytest.mark.parametrize(
    ("columns", "arguments", "read"),
    [("text", [], "text"), ("Text,id", [], "Text"), ("body", [], "body"), ("body,label", [], "body"),
     ("a,b", ["--column", "text=b"], "b"), ("a,b", [], None), ("a,b", ["--column", "text=c"], None),
     ("a,b", ["--column", "txt=b"], None), ("text,text", [], None)],
)  # fmt: skip
def test_the_column_of_texts(
    red: Red, finished_once: tuple[Path, Outcome], tmp_path: Path, columns: str, arguments: list[str], read: str | None
) -> None:
    names = columns.split(",")
    (tmp_path / "in.csv").write_text(f"{columns}\n{','.join(['good'] * len(names))}\n")
    outcome = red("predict", finished_once[0], tmp_path / "in.csv", *arguments, "--json", "-o", tmp_path / "out.csv")
    if read is None:
        assert outcome.code == 2
        assert outcome.json["error"]["code"] in ("column-not-found", "invalid-option", "file-damaged")
        assert not (tmp_path / "out.csv").exists()
    else:
        assert outcome.json["predicted"] == 1
        assert (f"{read!r} is read as" in outcome.err) == (read not in ("text", "b"))


def test_bad_input_is_refused(red: Red, finished_once: tuple[Path, Outcome], tmp_path: Path) -> None:
    run, source = finished_once[0], write_table(tmp_path / "in.csv")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("text,b\nx\n")
    (tmp_path / "there.csv").write_text("")
    cases: list[tuple[list[object], str, str]] = [
        ([run, tmp_path / "nothing.csv"], "file-not-found", "nothing.csv"),
        ([run, tmp_path / "empty.csv"], "no-rows", "empty.csv"),
        ([run, tmp_path / "ragged.csv"], "file-damaged", "row 1"),
        ([run, source, "-o", tmp_path / "out.doc"], "unsupported-file", ".parquet"),
        ([run, source, "-o", tmp_path / "there.csv"], "output-exists", "--overwrite"),
        ([run, source, "-o", source, "--overwrite"], "output-exists", "in.csv"),
        ([run, source, "-o", source / "x.csv"], "folder-not-found", "in.csv"),
        ([run], "invalid-option", "--text"),
        ([run, source, "--text", "a"], "invalid-option", "--text"),
        ([run, source], "invalid-option", "-o"),  # with --json
        ([run, "--text", "a", "--unknown", "b"], "invalid-option", "--min-probability"),
        ([run, "--text", "a", "train.seed=1"], "invalid-option", "train.seed"),
        ([tmp_path / "none", source, "-o", tmp_path / "o.csv"], "folder-not-found", "none"),
    ]
    for arguments, code, fact in cases:
        if "-o" not in arguments and "--text" not in arguments and fact not in ("--text", "-o"):
            arguments += ["-o", tmp_path / "out.csv"]
        assert_failed(red("predict", *arguments, "--json"), code, fact)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.csv", "in.csv", "ragged.csv", "there.csv"]


def test_improbable_answers_become_another_word(red: Red, finished_once: tuple[Path, Outcome]) -> None:
    given = ["predict", finished_once[0], "--text", "good", "--text", "dull story", "--json"]
    plain = red(*given).json["predictions"]
    least = max(row["probability"] for row in plain)
    found = red(*given, "--min-probability", least, "--unknown", "other").json
    assert sorted(row["prediction"] == "other" for row in found["predictions"]) == [False, True]
    assert [row["probability"] for row in found["predictions"]] == [row["probability"] for row in plain]
    assert found["below_threshold"] == 1


@pytest.mark.parametrize(
    ("given", "rows"),
    [("text\ngood\n", 1), ("good, film\nbad\n", 2), ('{"text": "good"}\n', 1), ("[urgent] help\nbad\n", 2),
     ("\ufeff {name}: help\nbad\n", 2), ("[1] help\n", 1), ('[\n{"text": "good"},\n{"text": "bad"}]', 2),
     ('{\n"text": "good"\n}\n', 1), ('[{"text": "good"}]', 1)],
)  # fmt: skip
def test_standard_input(
    red: Red,
    finished_once: tuple[Path, Outcome],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: str,
    rows: int,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    found = red("predict", finished_once[0], "-", "--json", "-o", tmp_path / "out.jsonl")
    assert (found.json["rows"], found.json["predicted"]) == (rows, rows)


@pytest.mark.parametrize("form", [AnswerForm(None, False, True), AnswerForm(["a", "b"], False, False),
                                  AnswerForm(None, True, False)])  # fmt: skip
def test_answers_are_shown_also_if_the_first_text_has_none(
    form: AnswerForm, capsys: pytest.CaptureFixture[str]
) -> None:
    probabilities = None if form.label_names is None else [0.25, 0.75]
    good = Answer(0.5 if form.number else "b", probabilities, "b." if form.read else None)
    names = form.columns()
    rows = [
        {"text": text, **dict(zip(names, form.cells(answer, None), strict=True))}
        for text, answer in (("first", Answer(problem="an empty text")), ("second", good))
    ]
    result = {"columns": list(names), "probability_columns": form.probability_columns(), "short_answers": True}
    print_answers(rows, {"text": "text"}, result)
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["first", "(an", "empty", "text)"]
    assert second.split()[:3] == ["second", str(good.prediction), *(["0.750"] if probabilities else [])]


def test_paths_and_overrides_of_predict(
    red: Red, finished_once: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are expanded, and a nested override counts as the key that it sets."""
    monkeypatch.setenv("ROWS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "in.csv").write_text("text;id,x\ngood;1,2\nfine, film;3,\n")
    for place in ("$ROWS/in.csv", "~/in.csv"):
        found = red("predict", finished_once[0], place, "data={delimiter: ;}", "--json", "-o", tmp_path / "out.csv",
                    "--overwrite")  # fmt: skip
        assert found.json["predicted"] == 2, found.err
        assert (tmp_path / "out.csv").read_text().startswith("text;id,x;")
    assert_failed(red("predict", finished_once[0], "$NONE/in.csv", "--json"), "invalid-option", "NONE")
    assert_failed(red("predict", finished_once[0], "task.labels=$5", "--json"), "invalid-option", "--text")


def test_the_base_of_an_adapter_is_named_in_any_way(
    red: Red, tmp_path: Path, finished_once: tuple[Path, Outcome]
) -> None:
    import shutil

    adapter = shutil.copytree(finished_once[0] / "adapter", tmp_path / "adapter")
    base = open_with_any_recipe(adapter, None, []).recipe.model.name_or_path
    other = shutil.copytree(base, tmp_path / "other")
    for named in (f"model.name_or_path={other}", f"model={{name_or_path: {other}}}"):
        assert open_with_any_recipe(adapter, None, [named]).recipe.model.name_or_path == str(other)


def test_a_recipe_may_be_valid_only_with_overrides(tmp_path: Path, finished_once: tuple[Path, Outcome]) -> None:
    import shutil

    adapter = shutil.copytree(finished_once[0] / "adapter", tmp_path / "adapter")
    recipe = parse_value((finished_once[0] / "recipe.yaml").read_text())
    recipe["eval"] = {**(recipe.get("eval") or {}), "metric": "nonsense"}
    (adapter / "recipe.yaml").write_text(dump(recipe))
    with pytest.raises(UserError, match="nonsense"):
        open_with_any_recipe(adapter, None, [])
    assert open_with_any_recipe(adapter, None, ["eval.metric=accuracy"]).recipe.eval.metric == "accuracy"


def test_models_without_a_recipe(red: Red, tmp_path: Path, finished_once: tuple[Path, Outcome]) -> None:
    """An adapter's own files say what it predicts, and so does the class of a model folder's model."""
    import shutil

    adapter = shutil.copytree(finished_once[0] / "adapter", tmp_path / "adapter")
    expected = red("predict", finished_once[0], "--text", "good", "--json").json["predictions"]
    assert red("predict", adapter, "--text", "good", "--json").json["predictions"] == expected
    make_language_model(tmp_path / "gpt2")
    outcome = red("predict", tmp_path / "gpt2", "--text", "good", "--text", " ", "--text", "good " * 99, "--json",
                  "eval.generation.max_new_tokens=3")  # fmt: skip
    assert outcome.code == 0, outcome.err
    answered, blank, long = outcome.json["predictions"]
    assert isinstance(answered["prediction"], str)
    assert (blank["prediction"], long["prediction"]) == (None, None)
    assert "99" in long["problem"]
    make_base(tmp_path / "encoder")
    assert_failed(red("predict", tmp_path / "encoder", "--text", "a", "--json"), "unsupported-model")


def test_eval_of_the_first_rows_and_evaluations_on_few(red: Red, tmp_path: Path, base: Path, data: Path) -> None:
    """Neither becomes the run's score: training draws some rows to evaluate on, and scores all in the end."""
    recipe = write_recipe(tmp_path, base, data)
    outcome = red("train", recipe, "eval.max_rows=10", "--json")
    assert outcome.code == 0, outcome.err
    metrics = outcome.json
    assert metrics["scoring"]["selection"]["examples"] == 10
    assert metrics["scoring"]["scored"]["examples"] == metrics["splits"]["validation"]["examples"] == 40
    run = tmp_path / "run"
    assert len((run / "predictions" / "validation.jsonl").read_text().splitlines()) == 40
    before = (run / "metrics.json").read_bytes()
    scored = red("eval", run, "--split", "validation", "--json").json
    assert scored["scores"]["accuracy"] == metrics["splits"]["validation"]["accuracy"]
    (run / "metrics.json").write_bytes(before)
    few = red("eval", run, "--split", "validation", "--limit", 7, "--json").json
    assert (few["examples"], few["limit"]) == (7, 7)
    assert (run / "metrics.json").read_bytes() == before
    assert len((run / "predictions" / "validation-first-7.jsonl").read_text().splitlines()) == 7
    assert_failed(red("eval", run, "eval.max_rows=5", "--json"), "invalid-option", "eval.max_rows")


def test_the_form_of_answers_has_no_probabilities_without_a_head() -> None:
    form = AnswerForm(None, number=True, read=False)
    assert form.cells(Answer(0.5), None) == [0.5, None]
    assert list(form.columns()) == ["prediction", "problem"]


def test_the_column_of_answers_is_not_read() -> None:
    recipe = load_recipe("classification", None, ["data.columns.label=gold_label"]).recipe
    assert find_columns(recipe, ["body", "Gold-Label"], (), "in.csv").read == {"text": "body"}
