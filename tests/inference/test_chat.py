"""`red chat`: answers, history, and errors."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from red_cli.inference import chat as chat_module
from tests.end_to_end.test_instruction_tuning import talk_data, talk_recipe, talking_base, write_jsonl


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return talking_base(tmp_path / "base")


@pytest.fixture
def recipe(tmp_path: Path, base: Path) -> Path:
    return talk_recipe(tmp_path, base, talk_data(tmp_path / "data"))


@pytest.fixture
def run(red: Callable, recipe: Path, tmp_path: Path) -> Path:
    """Answers of exactly five tokens."""
    options = ["eval.generation.max_new_tokens=5", "eval.generation.min_new_tokens=5", "train.learning_rate=3e-2"]
    assert red("train", recipe, *options).code == 0
    return tmp_path / "run"


@pytest.fixture
def say(red: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    def talk(lines: str, *arguments: object) -> object:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        return red("chat", *arguments)

    return talk


def generated(folder: Path, text: str, count: int = 5) -> str:
    """The text that plain transformers generates after a text."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    model.generation_config = GenerationConfig()
    config = GenerationConfig(max_new_tokens=count, min_new_tokens=count, eos_token_id=3, pad_token_id=0)
    written = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_answers_are_those_of_the_tuned_model_and_its_base(
    say: Callable,
    red: Callable,
    run: Path,
    base: Path,
    tmp_path: Path,
) -> None:
    """Two turns, with a history for each model; /new clears both."""
    assert red("export", run, "--output", tmp_path / "model").code == 0
    outcome = say("bcd\nef\n/new\nbcd\n\n/quit\nnot said\n", run, "--base")
    assert outcome.code == 0, outcome.err
    blocks = [block.split("\n") for block in outcome.out.strip().split("\n\n")]
    assert [(block[0], block[2]) for block in blocks] == [("tuned", "base")] * 3
    for column, folder in ((1, tmp_path / "model"), (3, base)):
        first = generated(folder, "u bcd a ")
        second = generated(folder, f"u bcd a {first}[SEP]u ef a ")
        assert [block[column].strip() for block in blocks] == [first, second, first]
    assert blocks[0][1] != blocks[0][3]


def test_an_exported_model_talks(say: Callable, red: Callable, run: Path, tmp_path: Path) -> None:
    assert red("export", run, "--output", tmp_path / "model").code == 0
    answer = say("bcd\n", run).out
    assert say("bcd\n", tmp_path / "model", "--recipe", run / "recipe.yaml").out == answer
    outcome = say("bcd\n", tmp_path / "model", "--recipe", run / "recipe.yaml", "--base")
    assert outcome.code == 2
    assert "--base: " in outcome.err


def test_messages_that_no_longer_fit_are_dropped(say: Callable, run: Path) -> None:
    """64 tokens of context; every turn takes about 13."""
    outcome = say("bcd\n" * 7, run)
    assert outcome.code == 0
    assert len(outcome.out.strip().split("\n\n")) == 7
    assert "the first messages no longer fit" in outcome.err
    outcome = say("b" * 70 + "\n", run)
    assert outcome.code == 2
    assert "max_new_tokens" in outcome.err


def test_an_interrupted_answer_ends_the_answer_alone(say: Callable, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = chat_module._Streamer.put
    calls = []

    def interrupted(self: object, value: torch.Tensor) -> None:
        calls.append(1)
        put(self, value)
        if len(calls) == 3:
            raise KeyboardInterrupt

    whole = say("bcd\n", run).out.strip()
    monkeypatch.setattr(chat_module._Streamer, "put", interrupted)
    outcome = say("bcd\n/new\nbcd\n", run)
    assert outcome.code == 0, outcome.err
    first, second = outcome.out.strip().split("\n\n")
    assert second.strip() == whole
    assert whole.startswith(first.strip())
    assert len(first.strip()) < len(whole)


def test_prompts_of_the_generation_task(say: Callable, red: Callable, recipe: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "u bc a ", "completion": "cb"}, {"prompt": "u de a ", "completion": "ed"}]
    path = write_jsonl(tmp_path / "pairs.jsonl", rows)
    files = ["data.path=null", f"data.train={path}", f"data.validation={path}"]
    outcome = red("train", recipe, "task={name: generation}", f"output.dir={tmp_path / 'pairs'}", *files)
    assert outcome.code == 0, outcome.err
    outcome = say("u bcd a \nu bcd a \n", tmp_path / "pairs")
    assert outcome.code == 0, outcome.err
    first, second = outcome.out.strip().split("\n\n")
    assert first.strip() == second.strip()  # nothing is remembered
    assert say("x\n", tmp_path / "pairs", "--system", "y").code == 2


def test_a_classifier_does_not_talk(say: Callable, red: Callable, tmp_path: Path, base: Path) -> None:
    rows = [{"text": letters, "label": letters[0]} for letters in ("bc", "cb", "bd", "cd") * 4]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    recipe_path = tmp_path / "labels.yaml"
    recipe_path.write_text(
        f"task: {{name: classification}}\nmodel: {{name_or_path: {base}}}\n"
        f"data: {{path: {path}, validation_share: 0.25}}\ntrain: {{max_steps: 1}}\n"
        f"output: {{dir: {tmp_path / 'labels'}}}\n"
    )
    assert red("train", recipe_path).code == 0
    outcome = say("b\n", tmp_path / "labels")
    assert outcome.code == 2
    assert "does not support the task classification" in outcome.err


def test_a_cell_of_a_notebook_is_refused(
    red: Callable, say: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands have a terminal, which nobody can type on."""
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert "!echo" not in say("bcd\n", tmp_path / "run").err  # but there is no run
    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    outcome = red("chat", tmp_path / "run")
    assert outcome.code == 2
    assert f"!echo TEXT | red chat {tmp_path / 'run'}" in outcome.err.replace("\n", " ")
