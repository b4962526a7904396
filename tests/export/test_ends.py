"""An exported model stops where its run taught it to stop, and pads as its run padded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, pipeline

from red_cli.export.ends import Ends
from tests.end_to_end.test_decoder_heads import without_padding_token
from tests.tiny import make_language_model

PAIRS = [("abc", "de"), ("xyz", "fg")]
EOS, MASK = 3, 4  # [SEP], [MASK]
# Ends turns with [MASK], which is not the tokenizer's end token
TEMPLATE = (
    "{% for message in messages %}{{ '[CLS]' if message.role == 'user' else '' }}{{ message.content }}"
    "{{ '-' if message.role == 'user' else '[MASK]' }}{% endfor %}"
)


def make_base(folder: Path, model_type: str = "llama", **changes: object) -> Path:
    """A base of letters with a chat template; its own end is [SEP]."""
    make_language_model(folder, model_type, letters=True, **changes)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[MASK]", "[CLS]"]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def change_json(file: Path, **values: object) -> None:
    """Set keys of a JSON file; a value of None removes the key."""
    content = {**(json.loads(file.read_text()) if file.is_file() else {}), **values}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def write_rows(folder: Path, **columns: Callable[[str, str], Any]) -> None:
    rows = [{name: make(*pair) for name, make in columns.items()} for pair in PAIRS]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def train(red, folder: Path, task: str, *keys: str, steps: int = 1) -> Path:
    """Train on all rows of `folder`; with some 60 steps the rows are known by heart."""
    run = folder / "run"
    outcome = red(
        "train", task, f"data.path={folder}", f"model.name_or_path={folder / 'base'}", f"output.dir={run}",
        f"train.max_steps={steps}", f"train.eval_steps={steps}", "train.learning_rate=0.1", "train.bf16=false",
        "red.positions=[ffn,attn,query,key,value]", "data.max_length=40", *keys,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return run


@dataclass
class Case:
    """A run, and the eos_token_id that generation_config.json of its export is to have.

    `base` changes the base's files, `removed` names those to delete; `said` is whether export says that it changes.
    """

    task: str
    expected: object
    said: bool = True
    keys: tuple[str, ...] = ()
    base: dict[str, dict] = field(default_factory=dict)
    model_type: str = "llama"
    removed: tuple[str, ...] = ()


GENERATION = {"prompt": lambda prompt, answer: prompt, "completion": lambda prompt, answer: answer}
MESSAGES = {
    "messages": lambda prompt, answer: [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": answer},
    ]
}
_END = 'task.end_token="[MASK]"'
CASES = {
    "the template's end": Case("instruction", [EOS, MASK], keys=("task.template=own",)),
    "a template that writes the tokenizer's end": Case(
        "instruction", EOS, said=False, keys=("task.template=human-assistant",)
    ),
    "task.end_token": Case("generation", [EOS, MASK], keys=(_END,)),
    "the base's own end": Case("generation", EOS, said=False),
    "another end in the tokenizer than in the base": Case(
        "generation", [5, EOS], base={"generation_config.json": {"eos_token_id": 5}, "config.json": {"eos_token_id": 5}}
    ),
    "several ends of the base": Case(
        "generation", [EOS, 5, MASK], keys=(_END,), base={"generation_config.json": {"eos_token_id": [EOS, 5]}}
    ),
    "the run's end is one of several of the base": Case(
        "generation", [5, MASK], said=False, keys=(_END,), base={"generation_config.json": {"eos_token_id": [5, MASK]}}
    ),
    "the run's end is the first of several of the base": Case(
        "generation", [5, MASK], keys=(_END,), base={"generation_config.json": {"eos_token_id": [MASK, 5]}}
    ),
    "a base without generation_config.json": Case(
        "generation", [EOS, MASK], keys=(_END,), removed=("generation_config.json",)
    ),
    "a base without an end": Case(
        "generation", EOS, base={file: {"eos_token_id": None} for file in ("config.json", "generation_config.json")}
    ),
    "an encoder-decoder": Case("generation", [EOS, MASK], keys=(_END, "red.components=[scale]"), model_type="t5"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_export_stops_at_the_end_that_was_trained(red, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    base = make_base(tmp_path / "base", case.model_type)
    for file, values in case.base.items():
        change_json(base / file, **values)
    for file in case.removed:
        (base / file).unlink()
    write_rows(tmp_path, **(MESSAGES if case.task == "instruction" else GENERATION))
    run = train(red, tmp_path, case.task, *case.keys)
    exported = red("export", run, "-o", tmp_path / "out", "--json")
    assert exported.code == 0, exported.err
    expected = case.expected if isinstance(case.expected, list) else [case.expected]
    assert exported.json["ends"] == expected
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == case.expected
    assert exported.json["answer"]["tokens"] >= 1
    assert (f"eos_token_id {case.expected}" in exported.json["ends_text"]) == case.said
    if not case.said:
        assert (tmp_path / "out" / "generation_config.json").read_bytes() == (
            base / "generation_config.json"
        ).read_bytes()


def test_plain_transformers_ends_every_answer_that_was_trained(red, tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    write_rows(tmp_path, **MESSAGES)
    run = train(red, tmp_path, "instruction", "task.template=own", "eval.generation.max_new_tokens=12", steps=60)
    exported = red("export", run, "-o", tmp_path / "out", "--json")
    assert exported.json["answer"] == {"tokens": 3, "ended": True, "equal": True}, exported.err
    assert red("eval", tmp_path / "out", "--json").json["scores"]["exact_match"] == 1
    model, tokenizer = (kind.from_pretrained(tmp_path / "out") for kind in (AutoModelForCausalLM, AutoTokenizer))
    for prompt, answer in PAIRS:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], return_tensors="pt", return_dict=True
        )
        written = model.generate(**asked, max_new_tokens=20, do_sample=False)[0, asked["input_ids"].shape[1] :]
        assert tokenizer.decode(written) == f"{answer}[MASK]"
    assert tokenizer.eos_token == "[MASK]"  # the one end that llama.cpp's converter reads


def test_an_export_that_does_not_stop_is_refused(red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_base(tmp_path / "base")
    write_rows(tmp_path, **GENERATION)
    run = train(red, tmp_path, "generation", _END)
    monkeypatch.setattr("red_cli.export.export.write_ends", lambda *_: Ends([EOS], ""))
    outcome = red("export", run, "-o", tmp_path / "out", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (1, "verification-failed")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["generation", "classification"])
def test_the_end_of_texts_that_an_encoder_decoder_writes(red, tmp_path: Path, task: str) -> None:
    base = make_base(tmp_path / "base", "t5", decoder_start_token_id=2)
    change_json(base / "generation_config.json", eos_token_id=5, decoder_start_token_id=0)
    change_json(base / "config.json", eos_token_id=5)
    columns = GENERATION if task == "generation" else {"text": lambda text, _: text, "label": lambda _, label: label}
    write_rows(tmp_path, **columns)
    keys = ("task.text_to_text=true",) if task == "classification" else ()
    run = train(red, tmp_path, task, "red.components=[scale]", *keys)
    exported = red("export", run, "-o", tmp_path / "out", "--json")
    assert exported.code == 0, exported.err
    assert exported.json["ends"] == [5, EOS]
    generation = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").generation_config
    assert (generation.eos_token_id, generation.decoder_start_token_id) == ([5, EOS], 2)


def test_an_adapter_without_a_recipe_keeps_the_ends_of_its_base(red, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    write_rows(tmp_path, **GENERATION)
    run = train(red, tmp_path, "generation", _END)
    shutil.copytree(run / "adapter", tmp_path / "alone" / "adapter")
    exported = red("export", tmp_path / "alone" / "adapter", "-o", tmp_path / "out", "--json")
    assert exported.code == 0, exported.err
    assert (exported.json["ends"], exported.json["answer"]) == (None, None)
    assert "no recipe" in exported.json["ends_text"]
    for name in ("generation_config.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_a_classifier_is_batched_by_plain_transformers(red, tmp_path: Path, model_type: str) -> None:
    without_padding_token(make_language_model(tmp_path / "base", model_type))
    write_rows(tmp_path, text=lambda text, _: "good film" if text == "abc" else "a film", label=lambda _, label: label)
    run = train(red, tmp_path, "classification", "red.positions=[ffn]")
    exported = red("export", run, "-o", tmp_path / "out", "--json")
    assert exported.code == 0, exported.err
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert tokenizer.pad_token_id == config["pad_token_id"] == EOS
    texts = ["good film", "a film was rather dull"]
    classify = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu")
    alone = [classify(text)[0]["score"] for text in texts]
    assert [answer["score"] for answer in classify(texts, batch_size=2)] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("name", ["no padding token", "a padding token without embedding"])
def test_texts_are_padded_with_the_token_of_the_training(red, tmp_path: Path, name: str) -> None:
    base = make_base(tmp_path / "base")
    if name == "no padding token":
        without_padding_token(base)
    else:
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_special_tokens({"pad_token": "[BEYOND]"})
        tokenizer.save_pretrained(base)
    write_rows(tmp_path, **GENERATION)
    run = train(red, tmp_path, "generation")
    assert red("export", run, "-o", tmp_path / "out").code == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.pad_token_id == EOS
    assert tokenizer(["abc", "a"], padding=True)["input_ids"][1][1:] == [EOS, EOS]
    assert tokenizer("abc")["input_ids"] == AutoTokenizer.from_pretrained(base)("abc")["input_ids"]
