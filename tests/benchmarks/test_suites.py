"""Benchmarks by other tools through the command line: lm-evaluation-harness, AlpacaEval, MT-Bench."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from red_cli.benchmarks.open_llm import ASKED, COLUMNS
from red_cli.benchmarks.question_suites import prompt_ids, suite_template
from red_cli.inference.generate import Decoder
from red_cli.recipe.load import load_recipe
from red_cli.tasks.presets.commonsense_protocol import ANSWER_PREFIX
from tests.failures import assert_failed
from tests.questions import FORMATS, make_decoder, questions
from tests.tiny import read_lines

QUESTIONS = [
    {"question_id": 82, "category": "writing", "turns": ["is it red ?", "so why ?"]},
    {"question_id": 81, "category": "math", "turns": ["is it so ?", "now then ?"]},
    {"question_id": 90, "category": "anything", "turns": ["why ?", "why ?"], "required_temperature": 0},
]
CHAT = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} [END]{% endfor %}"
    "{{ '<assistant> ' if add_generation_prompt else '' }}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of BoolQ-like questions, a base, a recipe, and a run of a few steps at a high rate."""
    from red_cli.train.loop import train

    folder = tmp_path_factory.mktemp("suites")
    for seed, split in enumerate(("train", "test")):
        path = folder / "boolq" / f"{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(questions("boolq", 40, seed)))
    texts = [row["instruction"] + " " + row["output"] for task in FORMATS for row in questions(task, 40, 0)]
    make_decoder(folder / "base", [*texts, " : ", "Human: \n\nAssistant: ", "so why now then ?", "<user> <assistant>"])
    (folder / "questions.yaml").write_text(
        f"""# Tiny questions. For tests.
task: {{name: commonsense, prompt_template: "{{instruction}} :"}}
model: {{name_or_path: {folder / "base"}}}
data: {{path: {folder / "boolq"}, validation_share: 0.2}}
train: {{learning_rate: 1e-1, max_steps: 3, batch_size: 16, micro_batch_size: 16}}
eval: {{metric: likelihood_accuracy, generation: {{max_new_tokens: 4}}}}
output: {{dir: {folder / "run"}}}
"""
    )
    train(load_recipe(str(folder / "questions.yaml")))
    return folder


def mean_of(metric: str) -> dict:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}


def write_task(folder: Path, rows: Path, name: str, **changes: object) -> None:
    """A multiple-choice task of lm-evaluation-harness over a local file."""
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows), "train": str(rows)}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "fewshot_split": "train",
        "doc_to_text": "{{instruction}} :",
        "target_delimiter": "",
        "doc_to_choice": [ANSWER_PREFIX + option for option in ("true", "false")],
        "doc_to_target": "{{['true', 'false'].index(answer)}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1},
        **changes,
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


def test_the_name_of_a_task_leads_nowhere_else(red, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    write_task(tmp_path / "tasks", folder / "boolq" / "test.json", "named", task="../../named")
    options = ["--tasks", tmp_path / "tasks", "--limit", 2, "--output", tmp_path / "out"]
    outcome = red("eval", folder / "run", "--suite", "../../named", *options, "--json")
    assert outcome.code == 0, outcome.err
    assert [path.name for path in (tmp_path / "out" / "suites").iterdir()] == [".._.._named.jsonl"]
    assert not list(tmp_path.glob("*.jsonl"))


def test_the_harness_finds_the_same_likelihoods(red, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    write_task(tmp_path / "tasks", folder / "boolq" / "test.json", "tiny_boolq")
    outcome = red("eval", folder / "run", "--suite", "tiny_boolq", "--tasks", tmp_path / "tasks", "--json")
    assert outcome.code == 0, outcome.err
    found = outcome.json["tasks"]["tiny_boolq"]
    assert (found["examples"], found["shots"]) == (40, 0)
    scores = red("eval", folder / "run", "--json").json["scores"]
    assert found["scores"]["acc"] == pytest.approx(scores["likelihood_accuracy"])
    theirs = read_lines(folder / "run" / "suites" / "tiny_boolq.jsonl")
    ours = read_lines(folder / "run" / "predictions" / "test.jsonl")
    assert len(theirs) == len(ours) == 40
    for their, our in zip(theirs, ours, strict=True):
        values = [value for value, _ in their["responses"]]
        assert values == pytest.approx([our["log_likelihoods"][option] for option in ("true", "false")], abs=1e-4)
    noted = json.loads((folder / "run" / "metrics.json").read_text())
    assert noted["suites"]["tiny_boolq"]["tasks"]["tiny_boolq"] == found
    assert noted["training"]  # what was there stays
    base, tokenizer = (kind.from_pretrained(folder / "base") for kind in (AutoModelForCausalLM, AutoTokenizer))
    prompt = tokenizer(ours[0]["prompt"])["input_ids"]
    ids = [*prompt, *tokenizer(ANSWER_PREFIX + "true")["input_ids"]]
    with torch.inference_mode():
        logits = base(torch.tensor([ids])).logits[0].log_softmax(-1)
    plain = sum(logits[place - 1, ids[place]].item() for place in range(len(prompt), len(ids)))
    assert abs(plain - ours[0]["log_likelihoods"]["true"]) > 1e-2  # the edits are at work


def test_shots_and_limit(red, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    write_task(tmp_path / "tasks", folder / "boolq" / "test.json", "tiny_boolq")
    options = ["--tasks", tmp_path / "tasks", "--shots", 2, "--limit", 5, "--output", tmp_path / "out"]
    result = red("eval", folder / "run", "--suite", "tiny_boolq", *options, "--json").json
    assert (result["tasks"]["tiny_boolq"]["shots"], result["tasks"]["tiny_boolq"]["examples"]) == (2, 5)
    assert len(read_lines(tmp_path / "out" / "suites" / "tiny_boolq.jsonl")) == 5
    shown = red("eval", folder / "run", "--suite", "tiny_boolq", *options)
    assert "5 questions of each task" in shown.out


def test_open_llm_names_both_kinds_of_arc(red, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    rows = json.loads((folder / "boolq" / "test.json").read_text())
    for name, count in (("easy", 5), ("other", 8)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows[:count]))
    for column in ASKED:
        file = tmp_path / ("easy.json" if column.task == "arc_easy" else "other.json")
        files = {"test": str(file), "train": str(folder / "boolq" / "train.json")}
        changes: dict[str, object] = {"dataset_kwargs": {"data_files": files}}
        changes |= {"num_fewshot": 0} if column.shots == 0 else {}
        if column.task == "gsm8k":
            strict = {"name": "strict-match", "filter": [{"function": "regex", "regex_pattern": "(true|false)"},
                                                         {"function": "take_first"}]}  # fmt: skip
            changes |= {"output_type": "generate_until", "doc_to_choice": None, "doc_to_target": "{{answer}}",
                        "generation_kwargs": {"until": ["?"], "max_gen_toks": 6}, "filter_list": [strict],
                        "metric_list": [mean_of("exact_match")]}  # fmt: skip
        write_task(tmp_path / "tasks", file, column.task, **changes)
    outcome = red("eval", folder / "run", "--suite", "open-llm", "--tasks", tmp_path / "tasks", "--json")
    assert outcome.code == 0, outcome.err
    columns = outcome.json["columns"]
    assert list(columns) == [*(column.title for column in COLUMNS), "ai2_arc"]
    assert [columns[column.title]["shots"] for column in COLUMNS] == [25, 10, 5, 0, 5, 5]
    tasks = outcome.json["tasks"]
    assert [tasks[column.task]["shots"] for column in ASKED] == [column.shots for column in ASKED]
    easy, challenge = (tasks[f"arc_{name}"]["scores"]["acc_norm"] for name in ("easy", "challenge"))
    assert columns["ai2_arc"]["value"] == pytest.approx((easy * 5 + challenge * 8) / 13)
    six = [columns[column.title]["value"] for column in COLUMNS]
    assert outcome.json["average"] == pytest.approx(sum(six) / 6)
    assert outcome.json["average_with_ai2_arc"] == pytest.approx((sum(six[1:]) + columns["ai2_arc"]["value"]) / 6)
    shown = red("eval", folder / "run", "--suite", "open-llm", "--tasks", tmp_path / "tasks", "--limit", 2).out
    assert all(name in shown for name in ("ARC-Challenge", "ai2_arc", "with ai2_arc"))
    assert max(map(len, shown.splitlines()[:9])) <= 80


def write_questions(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_alpaca_eval(red, folder: Path, tmp_path: Path) -> None:
    asked = [{"instruction": "is it red ?", "dataset": "tiny"}, {"instruction": "why ?"}]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    command = ["eval", folder / "run", "--suite", "alpaca-eval", "--questions", tmp_path / "asked.json"]
    command += ["--output", tmp_path / "out", "eval.generation.max_new_tokens=6"]
    outcome = red(*command)
    assert outcome.code == 0, outcome.err
    path = tmp_path / "out" / "alpaca-eval" / "outputs.json"
    rows = json.loads(path.read_text())
    assert [set(row) for row in rows] == [{"dataset", "instruction", "output", "generator"}] * 2
    assert [row["instruction"] for row in rows] == ["is it red ?", "why ?"]
    assert [row["dataset"] for row in rows] == ["tiny", "alpaca-eval"]
    assert rows[0]["generator"] == "run"
    assert f"alpaca_eval --model_outputs {path}" in outcome.out
    assert ("pip install alpaca-eval" in outcome.out) == (importlib.util.find_spec("alpaca_eval") is None)
    assert list(path.parent.iterdir()) == [path]  # nothing half-written stays
    noted = json.loads((tmp_path / "out" / "metrics.json").read_text())["suites"]["alpaca-eval"]
    assert noted["template"] == "human-assistant"
    paper = {"max_new_tokens": 6, "repetition_penalty": 1.1, "no_repeat_ngram_size": 5, "num_beams": 1}
    assert {name: noted["decoding"][name] for name in paper} == paper
    assert_failed(red(*command, "--json"), "output-exists", str(path))
    assert json.loads(path.read_text()) == rows


def test_mt_bench(red, folder: Path, tmp_path: Path) -> None:
    asked = write_questions(tmp_path / "question.jsonl", QUESTIONS)
    command = ["eval", folder / "run", "--suite", "mt-bench", "--questions", asked, "eval.generation.max_new_tokens=6"]
    outcome = red(*command, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    path = tmp_path / "out" / "mt-bench" / "model_answer" / "run.jsonl"
    rows = read_lines(path)
    assert [row["question_id"] for row in rows] == [81, 82, 90]  # as FastChat sorts them
    for row in rows:
        assert set(row) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
        assert (row["model_id"], row["choices"][0]["index"], len(row["choices"][0]["turns"])) == ("run", 0, 2)
    assert "gen_judgment.py --model-list run" in outcome.out
    noted = json.loads((tmp_path / "out" / "metrics.json").read_text())["suites"]["mt-bench"]
    assert noted["template"] == "human-assistant"
    assert list(path.parent.iterdir()) == [path]
    assert red(*command, "--output", tmp_path / "again").code == 0
    again = read_lines(tmp_path / "again" / "mt-bench" / "model_answer" / "run.jsonl")
    assert [row["choices"] for row in again] == [row["choices"] for row in rows]  # the same seed, the same draws
    assert red(*command, "--output", tmp_path / "out").code == 2


def test_stopped_answers_resume(red, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = write_questions(tmp_path / "question.jsonl", QUESTIONS)
    command = ["eval", folder / "run", "--suite", "mt-bench", "--questions", asked, "eval.generation.max_new_tokens=6"]
    assert red(*command, "--output", tmp_path / "whole").code == 0
    decode, calls = Decoder._decode, []

    def stop_at_the_third(decoder: Decoder, *arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decode(decoder, *arguments)

    monkeypatch.setattr(Decoder, "_decode", stop_at_the_third)
    stopped = red(*command, "--output", tmp_path / "out", "--json")
    assert_failed(stopped, "interrupted", f"--output {tmp_path / 'out'}", exit_code=130)
    answers = tmp_path / "out" / "mt-bench" / "model_answer"
    assert not (answers / "run.jsonl").exists()
    calls.clear()
    monkeypatch.setattr(Decoder, "_decode", decode)
    assert red(*command, "--output", tmp_path / "out").code == 0
    whole = read_lines(tmp_path / "whole" / "mt-bench" / "model_answer" / "run.jsonl")
    assert [row["choices"] for row in read_lines(answers / "run.jsonl")] == [row["choices"] for row in whole]
    assert [path.name for path in answers.iterdir()] == ["run.jsonl"]


def test_the_second_turn_sees_the_first(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    first, answer, second = ({"role": role, "content": text} for role, text in
                             (("user", "why ?"), ("assistant", "so now"), ("user", "then why ?")))  # fmt: skip

    recipe = load_recipe(str(folder / "questions.yaml")).recipe

    def prompt(*messages: dict, named: str | None = None) -> tuple[str, str]:
        name, template = suite_template(named, recipe, tokenizer)
        return name, tokenizer.decode(prompt_ids(template, messages))

    assert prompt(first) == ("human-assistant", "Human: why ?\n\nAssistant:")
    text = prompt(first, answer, second)[1]
    assert text == "Human: why ?\n\nAssistant: so now[END]\n\nHuman: then why ?\n\nAssistant:"
    tokenizer.chat_template = CHAT
    assert prompt(first) == ("own", "<user> why ? [END]<assistant> ")
    assert suite_template(None, recipe, tokenizer)[1].end == tokenizer.convert_tokens_to_ids("[END]")
    assert prompt(first, named="human-assistant")[0] == "human-assistant"


FAULTS = {
    "unknown suite": (["--suite", "openllm"], "unknown-name", "open-llm?"),
    "unknown task": (["--suite", "tiny_bolq", "--tasks", "{tasks}"], "unknown-name", "tiny_boolq?"),
    "no suite": (["--suite", " , "], "invalid-option", "--suite"),
    "no folder of tasks": (["--suite", "x", "--tasks", "nowhere"], "folder-not-found", "nowhere"),
    "data out of reach": (["--suite", "far", "--tasks", "{tasks}"], "unavailable", "far"),
    "code of the model's": (["--suite", "code", "--tasks", "{tasks}"], "benchmark-failed", "--confirm_run_unsafe_code"),
    "an option of another suite": (["--suite", "mt-bench", "--shots", "3"], "invalid-option", "--shots"),
    "an option without a suite": (["--shots", "3"], "invalid-option", "--shots"),
    "a split": (["--suite", "mt-bench", "--split", "test"], "invalid-option", "--split"),
    "instructions out of reach": (["--suite", "alpaca-eval"], "unavailable", "tatsu-lab/alpaca_eval"),
    "no questions": (["--suite", "mt-bench"], "invalid-option", "--questions FILE"),
    "no such file": (["--suite", "mt-bench", "--questions", "nowhere"], "file-not-found", "nowhere"),
    "broken questions": (["--suite", "alpaca-eval", "--questions", "{broken}"], "invalid-json", "line 2"),
    "a missing key": (["--suite", "mt-bench", "--questions", "{missing}"], "invalid-row", "question 1: no 'turns'"),
    "one turn": (["--suite", "mt-bench", "--questions", "{single}"], "invalid-row", "question 1: 'turns'"),
    "a question twice": (["--suite", "mt-bench", "--questions", "{twice}"], "invalid-row", "question_id"),
    "no such template": (["--suite", "mt-bench", "--questions", "{good}", "--template", "human-asistant"],
                         "unknown-name", "human-assistant?"),
    "no template of its own": (["--suite", "mt-bench", "--questions", "{good}", "--template", "own"],
                               "invalid-template", "--template alpaca or human-assistant"),
    "a template that fails": (["--suite", "mt-bench", "--questions", "{good}", "--template", "{% if %}"],
                              "invalid-template", "line 1"),
    "answers longer than the context": (["--suite", "mt-bench", "--questions", "{good}"], "too-long", "512"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(
    red, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: str, fact: str
) -> None:
    if arguments[1] in ("openllm", "tiny_bolq", "far", "code", "x"):
        tasks = pytest.importorskip("lm_eval.tasks")
        few = functools.partial(tasks.TaskManager, include_defaults=False)  # the harness's own take long to list
        monkeypatch.setattr(tasks, "TaskManager", lambda **named: few(**{**named, "include_defaults": False}))
    write_task(tmp_path / "tasks", folder / "boolq" / "test.json", "tiny_boolq")
    write_task(tmp_path / "tasks", tmp_path / "nowhere.json", "far")
    write_task(tmp_path / "tasks", folder / "boolq" / "test.json", "code", unsafe_code=True)
    (tmp_path / "broken").write_text('{"instruction": "a"}\n{"instruction')
    files = {
        "missing": [{"question_id": 1, "category": "math"}],
        "single": [{**QUESTIONS[0], "turns": ["one"]}],
        "twice": [QUESTIONS[0]] * 2,
        "good": QUESTIONS,
    }
    places = {name: str(write_questions(tmp_path / name, rows)) for name, rows in files.items()}
    places |= {"broken": str(tmp_path / "broken"), "tasks": str(tmp_path / "tasks")}
    for name, place in places.items():
        arguments = [argument.replace(f"{{{name}}}", place) for argument in arguments]
    outcome = red("eval", folder / "run", *arguments, "--output", tmp_path / "out", "--json")
    assert_failed(outcome, code, fact)
    assert not (tmp_path / "out").exists()


def test_the_harness_is_not_installed(red, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *others: None if name == "lm_eval" else found(name, *others)
    )
    outcome = red("eval", folder / "run", "--suite", "open-llm", "--json")
    assert_failed(outcome, "missing-dependency", "pip install 'red-finetune[lm-eval]'")


def test_suites_are_for_language_models(red, recipe: Path, tmp_path: Path) -> None:
    assert red("train", recipe, "train.max_steps=1").code == 0
    asked = write_questions(tmp_path / "question.jsonl", QUESTIONS)
    outcome = red("eval", tmp_path / "run", "--suite", "mt-bench", "--questions", asked, "--json")
    assert_failed(outcome, "unsupported-model", str(tmp_path / "run"))
