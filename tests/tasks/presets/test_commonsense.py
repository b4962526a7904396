"""The commonsense tasks: the protocol's rules, its files, and likelihoods of answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from red_cli.plan_and_result_tables import commonsense_table
from red_cli.recipe.schema import Data
from red_cli.tasks.presets.commonsense_files import CommonsenseFiles
from red_cli.tasks.presets.commonsense_protocol import COMMONSENSE, PROMPT, options_of, read_answer, subset_named
from red_cli.tasks.text.likelihood import collate_continuations, continuation_sums, encode_continuations
from tests.failures import fails
from tests.tiny import tiny_model

OFFERED = {
    "boolq": "true/false",
    "piqa": "solution1/solution2",
    "social_i_qa": "answer1/answer2/answer3",
    "hellaswag": "ending1/ending2/ending3/ending4",
    "winogrande": "option1/option2",
    "arc_easy": "answer1/answer2/answer3/answer4",
    "arc_challenge": "answer1/answer2/answer3/answer4/answer5",
    "openbookqa": "answer1/answer2/answer3/answer4",
}
# (task, generated text, the answer that the protocol's rules read from it)
OUTPUTS = [
    ("boolq", "the correct answer is true", "true"),
    ("boolq", "false, not true", "false"),
    ("boolq", "untrue", "true"),  # inside of a longer word
    ("boolq", "True", None),  # capitals are not the same
    ("boolq", "yes", None),
    ("boolq", "", None),
    ("boolq", "I cannot say. ### Response: true", None),  # another response begins
    ("boolq", "answer1", None),  # another task's answer
    ("piqa", "the correct answer is solution2", "solution2"),
    ("piqa", "solution 1", None),
    ("piqa", "Solution1 or solution2", "solution2"),
    ("social_i_qa", "the correct answer is answer3", "answer3"),
    ("social_i_qa", "answer4, no, answer1", "answer4"),  # not offered here, and the first all the same
    ("hellaswag", "the correct answer is ending4\nending1", "ending4"),
    ("hellaswag", "ending5", None),
    ("winogrande", "option2option1", "option2"),
    ("winogrande", "option3", None),
    ("arc_easy", "answer12", "answer1"),
    ("arc_easy", "the answer is 2", None),
    ("arc_challenge", "the correct answer is answer5", "answer5"),
    ("openbookqa", "answer6 answer2", "answer2"),
    ("openbookqa", "the correct answer is  answer1.", "answer1"),
]


@pytest.mark.parametrize(("task", "text", "expected"), OUTPUTS)
def test_answers_are_read_by_the_protocols_rules(task: str, text: str, expected: str | None) -> None:
    assert read_answer(text, OFFERED[task].split("/")) == expected


def test_every_task_has_outputs() -> None:
    assert {task for task, _, _ in OUTPUTS} == set(COMMONSENSE) == set(OFFERED)


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("Is it?\n\nAnswer format: true/false", ["true", "false"]),
        ("Option1: Sarah Option2: Maria Answer format: option1/option2", ["option1", "option2"]),
        (
            "Answer format: a/b is how it ends\n\nAnswer format: answer1/answer2/answer3 ",
            ["answer1", "answer2", "answer3"],
        ),
        ("Which?", None),
        ("Answer format: answer1", None),
        ("Answer format: answer1/answer1", None),
    ],
)
def test_the_answers_on_offer(instruction: str, expected: list[str] | None) -> None:
    assert options_of(instruction) == expected


@pytest.mark.parametrize(
    ("folder", "subset"),
    [("ARC-Easy", "arc_easy"), ("arc_challenge", "arc_challenge"), ("OBQA", "openbookqa"), ("HellaSwag", "hellaswag"),
     ("siqa", "social_i_qa"), ("glue", None)],
)  # fmt: skip
def test_folders_are_known_by_name(folder: str, subset: str | None) -> None:
    assert subset_named(folder) == subset


def row(task: str, number: int, **changes: object) -> dict:
    answer = OFFERED[task].split("/")[number % 2]
    question = f"Question {number}?\n\nAnswer format: {OFFERED[task]}"
    return {
        "instruction": question,
        "input": "",
        "output": f"the correct answer is {answer}",
        "answer": answer,
        **changes,
    }


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The protocol's layout: test files of all eight tasks, training files of two, and the joint file."""
    folder = tmp_path / "data"
    for count, task in enumerate(COMMONSENSE, start=1):
        write(folder / task / "test.json", [row(task, number) for number in range(count)])
    for task in ("boolq", "arc_easy"):
        write(folder / task / "train.json", [row(task, number) for number in range(5)])
    return folder


def find(subset: str | None = None, template: str | None = None, **data: object) -> dict:
    readers = CommonsenseFiles(Data(**data), subset, template).readers()
    return {split: read() for split, read in readers.items()}


def test_folders_of_tasks(dataset: Path) -> None:
    found = find(path=str(dataset))
    assert found["train"].table.num_rows == 10
    assert found["test"].table.num_rows == sum(range(1, 9))
    tasks = found["test"].column("task")
    assert [tasks.count(task) for task in COMMONSENSE] == list(range(1, 9))
    assert found["test"].column("options")[0] == ["true", "false"]
    prompt = found["test"].column("prompt")[0]
    assert prompt == PROMPT.replace("{instruction}", row("boolq", 0)["instruction"])
    assert prompt.startswith("Below is an instruction that describes a task. Write a response")
    assert prompt.endswith("### Response:\n" + " " * 16)


def test_the_joint_file_is_what_is_trained_on(dataset: Path) -> None:
    write(dataset / "commonsense_170k.json", [row("piqa", number) for number in range(7)])
    found = find(path=str(dataset))
    assert (found["train"].table.num_rows, found["train"].column("task")) == (7, [None] * 7)
    assert find("boolq", path=str(dataset))["train"].table.num_rows == 5  # of one task, its own


def test_a_clone_of_the_protocols_repository(dataset: Path, tmp_path: Path) -> None:
    clone = tmp_path / "LLM-Adapters"
    clone.mkdir()
    dataset.rename(clone / "dataset")
    write(clone / "ft-training_set" / "commonsense_170k.json", [row("openbookqa", 0)] * 3)
    found = find(path=str(clone))
    assert (found["train"].table.num_rows, found["test"].table.num_rows) == (3, 36)


def test_a_training_file_and_tests_elsewhere(dataset: Path, tmp_path: Path) -> None:
    joint = write(tmp_path / "joint.json", [row("hellaswag", number) for number in range(4)])
    for data in ({"path": str(joint), "test": str(dataset)}, {"train": str(joint), "test": str(dataset)}):
        found = find(**data)
        assert (found["train"].table.num_rows, found["test"].table.num_rows) == (4, 36)
    alone = find(train=str(joint), test=str(dataset / "piqa" / "test.json"))["test"]
    assert alone.column("task") == ["piqa"] * 2


def test_one_task_in_a_folder_of_its_own(dataset: Path) -> None:
    found = find(path=str(dataset / "boolq"))
    assert (found["train"].table.num_rows, set(found["test"].column("task"))) == (5, {"boolq"})


def test_columns_inputs_and_prompts_of_other_kinds(tmp_path: Path) -> None:
    rows = [{"question": row("boolq", 0)["instruction"], "gold": "true", "input": "Some context."}]
    path = write(tmp_path / "boolq.json", rows)
    columns = {"prompt": "question", "label": "gold"}
    found = find("boolq", train=str(path), columns=columns)["train"]
    assert found.column("completion") == ["the correct answer is true"]
    assert "### Input:\n" + " " * 16 + "Some context.\n" in found.column("prompt")[0]
    prompts = find("boolq", "{input} {instruction} ", train=str(path), columns=columns)["train"].column("prompt")
    assert prompts[0].startswith("Some context. Question 0?")


FILE_FAULTS = {
    "an answer that is not offered": (
        [row("piqa", 0, answer="solution3")], "invalid-row", "row 1: the answer is 'solution3'",
    ),
    "no text": ([row("piqa", 0, answer=2)], "invalid-row", "row 1: column 'answer' is 2"),
    "no instruction": ([{"output": "true"}], "column-not-found", "'instruction'"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "code", "fact"), FILE_FAULTS.values(), ids=FILE_FAULTS.keys())
def test_faults_of_files(tmp_path: Path, rows: list[dict], code: str, fact: str) -> None:
    path = write(tmp_path / "piqa" / "test.json", rows)
    with fails(code, fact, str(path)):
        find(path=str(tmp_path))


PLACE_FAULTS = {
    "no clone": (
        {"path": "LLM-Adapters"}, None, "file-not-found", "git clone https://github.com/AGI-Edgerunners/LLM-Adapters",
    ),
    "no task": ({"path": "{folder}/.."}, None, "folder-not-found", "boolq, piqa"),
    "another task": ({"path": "{folder}/boolq"}, "piqa", "conflicting-keys", "task.subset is piqa"),
    "no such task": ({"path": "{folder}/some"}, "piqa", "folder-not-found", "It has: boolq"),
    "no such split": ({"path": "{folder}", "validation": "{folder}"}, None, "split-not-found", "data.validation"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "subset", "code", "fact"), PLACE_FAULTS.values(), ids=PLACE_FAULTS.keys())
def test_faults_of_places(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, data: dict, subset: str | None, code: str, fact: str
) -> None:
    monkeypatch.chdir(dataset)
    write(dataset / "some" / "boolq" / "test.json", [row("boolq", 0)])
    with fails(code, fact):
        find(subset, **{key: value.format(folder=dataset) for key, value in data.items()})


PROMPTS = [[5, 6, 7], [8], [9, 10]]
CONTINUATIONS = [
    [[11, 12, 13], [11, 12, 14], [11, 12, 15]],  # one head
    [[11], [12], [13, 14]],  # the first two are read off the third's head
    [[11, 12], [13, 12, 5], [13, 12]],
]


def test_likelihoods_are_those_of_whole_sequences() -> None:
    model = tiny_model("llama")
    encoded = encode_continuations(PROMPTS, CONTINUATIONS)
    assert len(encoded) == 1 + 1 + 2
    found: dict[int, float] = {}
    for indices in ([0, 1, 2], [3]):
        batch = collate_continuations(encoded, torch.tensor(indices).numpy(), padding=0)
        with torch.inference_mode():
            for sums in continuation_sums(model, batch):
                found |= dict(sums)
    expected = []
    for prompt, choices in zip(PROMPTS, CONTINUATIONS, strict=True):
        for choice in choices:
            with torch.inference_mode():
                logits = model(torch.tensor([[*prompt, *choice]])).logits[0].log_softmax(-1)
            expected.append(sum(logits[len(prompt) - 1 + at, token].item() for at, token in enumerate(choice)))
    assert [found[number] for number in range(len(expected))] == pytest.approx(expected, abs=1e-5)


def test_the_table_has_eight_columns_and_the_average() -> None:
    shares = {task: index / 10 for index, task in enumerate(COMMONSENSE)}
    scores = {"accuracy": 0.35, **{f"accuracy.{task}": share for task, share in shares.items()}}
    heading, generated = commonsense_table(scores)
    assert heading == ["", "BoolQ", "PIQA", "SIQA", "HellaS.", "WinoG.", "ARC-e", "ARC-c", "OBQA", "avg"]
    assert [float(cell) for cell in generated[1:]] == [0, 10, 20, 30, 40, 50, 60, 70, 35]
    del scores["accuracy.openbookqa"]
    heading, generated = commonsense_table(scores)
    assert (heading[-1], generated[-2]) == ("avg of 7", "-")
    assert commonsense_table({"accuracy": 0.5}) == []
