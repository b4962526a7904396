"""Two processes predict and score the same as one, file by file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from red_cli.commands import predict as predict_command
from red_cli.commands import trained_models
from red_cli.inference import input_file, predict_file
from tests.conftest import Outcome, run_red
from tests.inference import commands_on_ranks
from tests.tiny import make_language_model, named, read_lines
from tests.train.started import start

Red = Callable[..., Outcome]
WORDS = ["good", "bad", "dull", "sweet", "poor", "fine", "sour"]
SAMPLED = ["eval.generation={do_sample: true, temperature: 2.0, max_new_tokens: 6}", "eval.batch_size=4"]
HARNESS = {"dataset_path": "json", "output_type": "multiple_choice", "test_split": "test",
           "doc_to_text": "{{prompt}}", "doc_to_choice": [" good", " bad"], "doc_to_target": 0}  # fmt: skip


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a decoder, rows, a recipe, questions and a task of lm-evaluation-harness."""
    folder = tmp_path_factory.mktemp("decoder")
    base = make_language_model(folder / "base", "llama")
    rows = [{"prompt": " ".join(["the", word, *["very"] * (index % 5), "film was"]), "completion": "good"}
            for index, word in enumerate(WORDS * 3)]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts.yaml").write_text(
        f"""
task: {{name: generation}}
model: {{name_or_path: {base}}}
data: {{train: rows.jsonl, test: rows.jsonl, validation: rows.jsonl}}
eval: {{generation: {{max_new_tokens: 6, num_beams: 2}}}}
"""
    )
    questions = [{"instruction": row["prompt"]} for row in rows[:5]]
    (folder / "questions.json").write_text(json.dumps(questions))
    (folder / "tasks").mkdir()
    files = {"data_files": {"test": str(folder / "rows.jsonl")}}
    (folder / "tasks" / "films.yaml").write_text(json.dumps({**HARNESS, "task": "films", "dataset_kwargs": files}))
    return folder


def commands(run: Path, decoder: Path, data: Path) -> dict[str, list[Any]]:
    """What is computed on one process and on two; the last word is where it writes."""
    texts = ["eval", decoder / "base", "--recipe", decoder / "texts.yaml"]
    questions = ["--suite", "alpaca-eval", "--questions", decoder / "questions.json"]
    found = {
        "labels": ["eval", run, "--output"],
        "texts": [*texts, "--output"],
        "drawn texts": [*texts, *SAMPLED, "--output"],
        "a table": ["predict", run, data / "test.csv", "-o"],
        "a resumed file": ["predict", *texts[1:], decoder / "rows.jsonl", "-o"],
        "questions": [*texts, *questions, "eval.generation.max_new_tokens=4", "--output"],
    }
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        return found
    return {**found, "a harness task": [*texts, "--suite", "films", "--tasks", decoder / "tasks", "--output"]}


def sharded(run: Path, decoder: Path) -> dict[str, list[Any]]:
    """What is also computed with a base of which each rank has a part."""
    texts = ["eval", decoder / "base", "--recipe", decoder / "texts.yaml"]
    return {"labels": ["eval", run, "launch.strategy=fsdp", "--output"],
            "texts": [*texts, "launch.strategy=fsdp", "--output"]}  # fmt: skip


def assert_same(found: Any, expected: Any) -> None:
    """Equal, but for the last bits of numbers."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=1e-5, abs_tol=2e-6)
    else:
        assert found == expected


def content_of(path: Path, folder: Path) -> Any:
    """A file as plain data, without the name of its folder."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
        return [{key: float(cell) if key.startswith("p") and "_" in key else cell for key, cell in row.items()
                 if key != "probability"} for row in rows]  # fmt: skip
    if path.suffix in (".jsonl", ".json"):
        text = path.read_text().replace(str(folder), "")
        return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    return path.read_text()


def interrupt(monkeypatch: pytest.MonkeyPatch, arguments: list[Any], output: Path) -> None:
    """Stop a prediction by one process after its first part."""
    real = predict_file.PartialAnswers.add

    def add(self: predict_file.PartialAnswers, answers: list[Any]) -> None:
        real(self, answers)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predict_file.PartialAnswers, "add", add)
        assert run_red(*arguments, output).code == 130


@pytest.mark.slow
def test_the_same_as_one_process(
    finished_once: tuple[Path, Outcome], decoder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_file, "PART", commands_on_ranks.ROWS_OF_A_PART)
    places = {}
    for number, (name, arguments) in enumerate(commands(finished_once[0], decoder, data).items()):
        ending = {"a table": ".csv", "a resumed file": ".jsonl"}.get(name, "")
        places[name] = [tmp_path / f"{count}" / f"{number}{ending}" for count in ("one", "two", "sharded")]
        outcome = run_red(*arguments, places[name][0])
        assert outcome.code == 0, outcome.err
        if name == "a resumed file":
            interrupt(monkeypatch, arguments, places[name][1])
    lines = [[*arguments, places[name][1]] for name, arguments in commands(finished_once[0], decoder, data).items()]
    lines += [[*arguments, places[name][2]] for name, arguments in sharded(finished_once[0], decoder).items()]
    (tmp_path / "commands.json").write_text(json.dumps(lines, default=str))
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", commands_on_ranks.__file__)
    code, _, err = start(tmp_path / "commands.json", command=torchrun).wait()
    assert code == 0, err
    assert "Resuming: 10 of 21 rows" in err
    for name, (one, *others) in places.items():
        for other in others if name in sharded(one, one) else others[:1]:
            files = {path.relative_to(one): path for path in [*one.rglob("*"), one] if path.is_file()}
            assert files.keys() == {path.relative_to(other) for path in [*other.rglob("*"), other] if path.is_file()}
            for place, path in files.items():
                with named(f"{name}: {place}"):
                    assert_same(content_of(other / place, other), content_of(path, one))
    assert len(read_lines(places["drawn texts"][1] / "predictions" / "test.jsonl")) == 21


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The launch sections by which commands would have started processes."""
    seen: list[Any] = []

    def started(launch: Any, json: bool) -> bool:
        seen.append(launch)
        return True

    for module in (trained_models, predict_command):
        monkeypatch.setattr(module, "started_elsewhere", started)
    return seen


def test_the_command_line_says_how_many(
    red: Red, finished: Path, data: Path, tmp_path: Path, launches: list[Any]
) -> None:
    """Where a run was trained does not matter: its machine may have had other devices."""
    recipe = finished / "recipe.yaml"
    text = recipe.read_text()
    start_of_launch = text.index("launch:")
    rest = text[start_of_launch:].split("\n", 1)[1]
    recipe.write_text(text[:start_of_launch] + "launch:\n  num_processes: 8\n  strategy: zero3\n" + "\n".join(
        line for line in rest.split("\n") if "strategy:" not in line))  # fmt: skip
    for arguments in (["eval", finished], ["eval", finished, "--suite", "x"], ["predict", finished, data / "test.csv"]):
        for keys, count in ([], None), (["launch.num_processes=2"], 2):
            outcome = red(*arguments, *keys)
            assert outcome.code == 0, outcome.err
            assert (launches[-1].num_processes, launches[-1].strategy) == (count, "auto")
    assert len(launches) == 6
    assert not (finished / "evaluations").exists()
    outcome = red("predict", finished, "--text", "a good film", "--json")
    assert outcome.code == 0, outcome.err
    assert len(launches) == 6  # a text is not shared


REFUSED = {
    "DeepSpeed": (["eval", "RUN", "launch.strategy=zero3"], "fsdp"),
    "DeepSpeed for a file": (["predict", "RUN", "FILE", "launch.strategy=zero2"], "fsdp"),
    "standard input": (["predict", "RUN", "-", "launch.num_processes=2"], "file"),
    "chat": (["chat", "RUN", "launch.num_processes=2"], "chat takes one process, not 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shared_is_refused(red: Red, finished_once: tuple[Path, Outcome], data: Path, case: str) -> None:
    arguments, said = REFUSED[case]
    places = {"RUN": finished_once[0], "FILE": data / "test.csv"}
    outcome = red(*(places.get(word, word) for word in arguments))
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())
