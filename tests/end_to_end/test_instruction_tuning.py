"""Instruction tuning through the command line, on tiny models."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from tests.failures import assert_failed
from tests.tiny import make_language_model, read_lines

TEMPLATE = (
    "{% for message in messages %}"
    "{{ 'u ' + message.content + ' a ' if message.role == 'user' else message.content + eos_token }}"
    "{% endfor %}"
)


def talks(count: int, seed: int) -> list[dict]:
    """Turns in which the assistant says the user's letters backwards."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        messages = []
        for _ in range(draw.randint(1, 3)):
            letters = "".join(draw.choices("bcdef", k=draw.randint(1, 4)))
            messages.append({"role": "user", "content": letters})
            messages.append({"role": "assistant", "content": letters[::-1]})
        rows.append({"messages": messages})
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def talking_base(folder: Path) -> Path:
    """A tiny LLaMA with a chat template of its own."""
    make_language_model(folder, "llama", letters=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def talk_data(folder: Path) -> Path:
    for seed, (split, count) in enumerate({"train": 48, "validation": 12, "test": 6}.items()):
        write_jsonl(folder / f"{split}.jsonl", talks(count, seed))
    return folder


def talk_recipe(folder: Path, base: Path, data: Path) -> Path:
    path = folder / "talk.yaml"
    path.write_text(
        f"""# Talk. For tests.
task: {{name: instruction}}
model: {{name_or_path: {base}}}
data: {{path: {data}}}
train: {{learning_rate: 1e-2, num_train_epochs: 1, batch_size: 16, micro_batch_size: 16, logging_steps: 1}}
eval: {{generation: {{max_new_tokens: 6}}}}
output: {{dir: {folder / "run"}}}
"""
    )
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talking_base(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talk_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def recipe(tmp_path: Path, base: Path, data: Path) -> Path:
    return talk_recipe(tmp_path, base, data)


def test_check_shows_what_is_trained_on(red: Callable, recipe: Path, data: Path) -> None:
    row = read_lines(data / "train.jsonl")[0]["messages"]
    example = red("check", recipe, "--json").json["plan"]["examples"][0]
    tokens, mask = example["tokens"], example["learnt"]
    assert "".join(token for token, said in zip(tokens, mask, strict=True) if said) == "".join(
        message["content"] + "[SEP]" for message in row if message["role"] == "assistant"
    )
    shown = red("check", recipe).out
    for message in row:
        text = message["content"]
        assert (f"→ {text}[SEP]\n" if message["role"] == "assistant" else f"u {text} a \n") in shown


def test_train_eval_and_export(red: Callable, recipe: Path, data: Path, tmp_path: Path) -> None:
    outcome = red("train", recipe, "train.num_train_epochs=5", "train.learning_rate=5e-2", "--json")
    assert outcome.code == 0, outcome.err
    validation = outcome.json["splits"]["validation"]
    log = [line["loss"] for line in read_lines(tmp_path / "run" / "log.jsonl") if "loss" in line]
    assert log[-1] < log[0]
    result = red("eval", tmp_path / "run", "--json").json
    assert set(result["scores"]) == {"loss", "perplexity", "exact_match", "unfinished"}
    predictions = read_lines(tmp_path / "run" / "predictions" / "test.jsonl")
    last = [row["messages"][-1]["content"] for row in read_lines(data / "test.jsonl")]
    assert [prediction["label"] for prediction in predictions] == last
    assert predictions[0]["prompt"].endswith(" a ")
    again = red("eval", tmp_path / "run", "--split", "validation", "--json").json["scores"]
    assert again["loss"] == pytest.approx(validation["loss"], abs=1e-6)
    assert red("export", tmp_path / "run", "--output", tmp_path / "model").code == 0
    exported = red("eval", tmp_path / "model", "--recipe", recipe, "--split", "validation", "--json").json["scores"]
    assert exported["loss"] == pytest.approx(validation["loss"], abs=1e-4)


@pytest.mark.parametrize("template", ["alpaca", "human-assistant"])
@pytest.mark.parametrize("form", ["completion", "output"])
def test_other_rows_and_templates(red: Callable, recipe: Path, tmp_path: Path, form: str, template: str) -> None:
    keys = {"completion": ("prompt", "completion"), "output": ("instruction", "output")}[form]
    rows = [{keys[0]: row["messages"][0]["content"], keys[1]: row["messages"][1]["content"]} for row in talks(8, 3)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    options = [f"data.path={path}", "data.validation_share=0.25", f"task.template={template}", "train.max_steps=1"]
    if template == "alpaca":
        options += ["data.too_long=drop", "data.max_length=64"]
    outcome = red("train", recipe, *options, "--json")
    if template == "alpaca":  # longer than the 64 tokens that the base takes
        assert_failed(outcome, "no-rows", "data.max_length")
    else:
        assert outcome.code == 0, outcome.err
        assert red("export", tmp_path / "run", "--output", tmp_path / "model").code == 0
        asked = AutoTokenizer.from_pretrained(tmp_path / "model").apply_chat_template(
            [{"role": "user", "content": "bc"}], tokenize=False, add_generation_prompt=True
        )
        assert asked == "Human: bc\n\nAssistant:"


def test_rows_left_out_are_reported(red: Callable, recipe: Path, tmp_path: Path) -> None:
    outcome = red("check", recipe, "data.too_long=drop", "data.max_length=20", "data.max_prompt_length=7", "--json")
    lengths = outcome.json["plan"]["lengths"]["train"]
    assert lengths["rows"] + sum(lengths["left_out"].values()) == 48
    assert set(lengths["left_out"]) == {"more than 20 tokens", "a prompt of more than 7 tokens"}
    assert lengths["longest"] <= 20
    shown = red("check", recipe, "data.too_long=drop", "data.max_length=20").out
    assert "of 48 train rows left out: " in shown


def test_every_turn_is_trained_as_transformers_would(red: Callable, recipe: Path, base: Path, data: Path) -> None:
    """The loss before the first step is that of transformers' own labels on the same tokens."""
    from transformers import AutoModelForCausalLM

    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    total, count = 0.0, 0
    for row in read_lines(data / "train.jsonl")[:16]:
        ids, labels = [], []
        for message in row["messages"]:
            user = message["role"] == "user"
            text = f"u {message['content']} a " if user else message["content"] + "[SEP]"
            part = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += part
            labels += [-100] * len(part) if user else part
        count_of_row = sum(label != -100 for label in labels)
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        total, count = total + float(loss) * count_of_row, count + count_of_row
    rows = read_lines(data / "train.jsonl")[:16]
    path = write_jsonl(recipe.parent / "few.jsonl", rows)
    files = ["data.path=null", f"data.train={path}", f"data.validation={path}", "train.max_steps=1"]
    assert red("train", recipe, *files).code == 0
    first = read_lines(recipe.parent / "run" / "log.jsonl")[0]["loss"]
    assert first == pytest.approx(total / count, abs=1e-5)


# An answer to the last question begins with a thought, which later turns leave out; a system message must come first
THINKS = (
    "{% if messages[0].role != 'system' %}{{ raise_exception('a system message must come first') }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    "{{ ('bb ' if loop.last else '') + message.content + eos_token }}"
    "{% else %}{{ message.content + ' ' }}{% endif %}{% endfor %}"
)


def test_answers_that_are_rewritten_later(
    red: Callable, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is a row: of the loss, of the predictions and of what is generated; and red chat finds the end."""
    rows = [{"id": 1, "messages": [{"role": "system", "content": "f"}, *row["messages"]]} for row in talks(12, 3)]
    rows[2]["messages"][1]["content"] = " "
    answers = [sum(message["role"] == "assistant" for message in row["messages"]) for row in rows]
    (tmp_path / "thinks.jinja").write_text(THINKS)
    files = [f"data.{split}={write_jsonl(tmp_path / f'{split}.jsonl', rows)}" for split in ("train", "validation")]
    options = ["data.path=null", *files, f"task.template={tmp_path / 'thinks.jinja'}"]
    assert_failed(red("check", recipe, *options, "--json"), "invalid-row", "train.jsonl", "row 3", "data.bad_rows=drop")
    options.append("data.bad_rows=drop")
    plan = red("check", recipe, *options, "--json").json["plan"]
    kept = sum(answers) - answers[2]
    assert (plan["lengths"]["train"]["rows"], sum(plan["lengths"]["train"]["left_out"].values())) == (kept, 1)
    assert any("columns id" in note for note in plan["notes"])
    several = sum(count for row, count in enumerate(answers) if count > 1 and row != 2)
    assert any("thinks.jinja" in note and f"{several} rows" in note for note in plan["notes"])
    trained = red("train", recipe, *options, "train.max_steps=2", "--json")
    assert trained.code == 0, trained.err
    result = red("eval", tmp_path / "run", "--split", "validation", "--json").json
    assert result["examples"] == kept
    assert result["scores"]["loss"] == pytest.approx(trained.json["splits"]["validation"]["loss"], abs=1e-6)
    predictions = read_lines(tmp_path / "run" / "predictions" / "validation.jsonl")
    assert [line["index"] for line in predictions] == [
        row for row, count in enumerate(answers) for _ in range(count) if row != 2
    ]
    said = [message["content"] for message in rows[0]["messages"] if message["role"] == "assistant"]
    assert [line["label"] for line in predictions[: answers[0]]] == [f"bb {text}" for text in said]
    for split in ("train", "validation"):  # an adapter is used without its data
        (tmp_path / f"{split}.jsonl").unlink()
    refused = red("chat", tmp_path / "run")
    assert refused.code == 2
    assert "must come first" in refused.err
    assert "--system" in refused.err
    monkeypatch.setattr("sys.stdin", io.StringIO("bc\nde\n"))
    talked = red("chat", tmp_path / "run", "--system", "f")
    assert talked.code == 0, talked.err


BAD_RECIPES = {
    "no such template": (["task.template=alpacca"], "task.template"),
    "stream without steps": (["data.streaming=true"], "train.max_steps"),
    "label column": (["data.columns.label=x"], "data.columns.label"),
    "keys of another task": (
        ["task={name: generation}", "data.too_long=drop", "data.columns.messages=x"], "data.columns.messages",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "key"), BAD_RECIPES.values(), ids=BAD_RECIPES.keys())
def test_bad_recipes(red: Callable, recipe: Path, options: list[str], key: str) -> None:
    assert_failed(red("check", recipe, *options, "--json"), "invalid-recipe", key)


def test_data_that_ends_with_the_user_is_not_trained_on(red: Callable, recipe: Path, tmp_path: Path) -> None:
    rows = [{"messages": row["messages"][:-1]} for row in talks(8, 3)]
    path = write_jsonl(tmp_path / "asked.jsonl", rows)
    outcome = red("train", recipe, f"data.path={path}", "data.validation_share=0.25", "--json")
    assert_failed(outcome, "invalid-label", str(path))
    assert not (tmp_path / "run").exists()


def test_an_encoder_decoder_is_refused(red: Callable, recipe: Path, tmp_path: Path) -> None:
    make_language_model(tmp_path / "t5", "t5")
    outcome = red("check", recipe, f"model.name_or_path={tmp_path / 't5'}", "--json")
    assert_failed(outcome, "unsupported-model", "t5")


def test_packing_does_not_change_the_training(red: Callable, recipe: Path, tmp_path: Path) -> None:
    """The same loss at every step, whether texts are padded or packed, however many sequences go together."""
    losses = {}
    for name, options in {
        "padded": [],
        "packed": ["train.packing=true"],
        "by two": ["train.packing=true", "train.micro_batch_size=2"],
    }.items():
        folder = tmp_path / name
        assert red("train", recipe, "train.num_train_epochs=2", f"output.dir={folder}", *options).code == 0
        losses[name] = [line["loss"] for line in read_lines(folder / "log.jsonl") if "loss" in line]
    assert len(losses["padded"]) == 6
    assert losses["packed"] == pytest.approx(losses["padded"], abs=1e-5)
    assert losses["by two"] == pytest.approx(losses["padded"], abs=1e-5)


def test_packing_is_refused_where_texts_would_mix(red: Callable, recipe: Path, tmp_path: Path) -> None:
    make_language_model(tmp_path / "opt", "opt", letters=True)
    options = [f"model.name_or_path={tmp_path / 'opt'}", "task.template=human-assistant", "train.packing=true"]
    assert_failed(red("check", recipe, *options, "--json"), "unsupported-model", "train.packing", "opt")


def test_packing_is_of_texts(red: Callable, tmp_path: Path) -> None:
    assert_failed(red("check", "quickstart", "train.packing=true", "--json"), "invalid-recipe", "train.packing")


def test_a_stream_is_trained_on_as_far_as_the_steps_go(red: Callable, recipe: Path, tmp_path: Path) -> None:
    """Two runs are the same, and every step has other rows."""
    losses = []
    for name in ("first", "second"):
        options = ["data.streaming=true", "train.max_steps=2", "train.batch_size=8", f"output.dir={tmp_path / name}"]
        outcome = red("train", recipe, *options, "train.micro_batch_size=8", "--json")
        assert outcome.code == 0, outcome.err
        losses.append([line["loss"] for line in read_lines(tmp_path / name / "log.jsonl") if "loss" in line])
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]
    plan = red("check", recipe, "data.streaming=true", "train.max_steps=2", "train.batch_size=8",
               "train.micro_batch_size=8", "--json").json["plan"]  # fmt: skip
    assert (plan["lengths"]["train"]["rows"], plan["steps_per_epoch"]) == (16, 2)
