"""Texts that carry what encoding adds are encoded as those that do not; special tokens in texts are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from red_cli.plan.prepare import prepare
from red_cli.recipe.load import load_recipe
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.special_ids import find_affixes
from red_cli.tasks.special_texts import Marks, without_end, without_start
from red_cli.tasks.special_tokens import FoundRows, rows_with_special_tokens
from tests.tiny import make_base, make_language_model

CHAT = (
    "{{ '[CLS]' }}{% for message in messages %}{{ message.content }}"
    "{{ '-' if message.role == 'user' else '[MASK]' }}{% endfor %}"
)


def with_bos(folder: Path, framed: bool = True) -> Path:
    """Let the tokenizer of letters have the BOS token [CLS] and a chat template; `framed` begins texts with it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"bos_token": "[CLS]", "additional_special_tokens": ["[MASK]"]})
    tokenizer.chat_template = CHAT
    if framed:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", 2)]
        )
    tokenizer.save_pretrained(folder)
    return folder


def messages(asked: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


# name: (task, kind of base, keys, the row without marks, the same row with marks, what is counted)
SAME: dict[str, tuple[str, str, tuple[str, ...], dict[str, Any], dict[str, Any], list[int]]] = {
    "a completion with its end": (
        "generation", "decoder", (), {"prompt": "ab", "completion": "cd"},
        {"prompt": "ab", "completion": "cd[SEP]"}, [1],
    ),
    "a completion with two ends and a line's end": (
        "generation", "decoder", (), {"prompt": "ab", "completion": "cd"},
        {"prompt": "ab", "completion": "cd[SEP][SEP]\n"}, [1],
    ),
    "task.end_token": (
        "generation", "decoder", ('task.end_token="[MASK]"',), {"prompt": "ab", "completion": "cd"},
        {"prompt": "ab", "completion": "cd[MASK]"}, [1],
    ),
    "a prompt with BOS": (
        "generation", "decoder", (), {"prompt": "ab", "completion": "cd"},
        {"prompt": "[CLS]ab", "completion": "cd"}, [1],
    ),
    "a prompt of a template": (
        "generation", "decoder",
        ('task.prompt_template="{a}b"', 'task.completion_template="{c}d"', "data.columns.prompt=null",
         "data.columns.completion=null"),
        {"a": "a", "c": "c"}, {"a": "[CLS][CLS]a", "c": "c"}, [1],
    ),
    "an encoder-decoder": (
        "generation", "encoder-decoder", (), {"prompt": "ab", "completion": "cd"},
        {"prompt": "ab[SEP]", "completion": "cd[SEP]"}, [1, 1],
    ),
    "turns with their end": (
        "instruction", "decoder", ("task.template=own",), {"messages": messages("ab", "cd") + messages("ef", "gh")},
        {"messages": messages("ab", "cd[MASK]") + messages("ef[MASK]", "gh[MASK]")}, [3],
    ),
    "a conversation that begins with BOS": (
        "instruction", "decoder", ("task.template=own",), {"messages": messages("ab", "cd")},
        {"messages": messages("[CLS]ab", "cd")}, [],
    ),
    "an instruction": (
        "instruction", "decoder", ("task.template=own",), {"instruction": "ab", "output": "cd"},
        {"instruction": "ab", "output": "cd[MASK]"}, [1],
    ),
    "a text to classify": (
        "classification", "encoder", (), {"text": "good film", "label": "p"},
        {"text": "[CLS]good film [SEP]", "label": "p"}, [2, 2],
    ),
    "text to text": (
        "classification", "encoder-decoder", ("task.text_to_text=true",), {"text": "ab", "label": "cd"},
        {"text": "ab[SEP]", "label": "cd"}, [2],
    ),
    "the text of a label": (
        "classification", "encoder-decoder", ("task.text_to_text=true", "task.label_texts=[cd,ef]"),
        {"text": "ab", "label": "a"}, {"text": "ab", "label": "a"}, [],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        "decoder": with_bos(make_language_model(folder / "decoder", "llama", letters=True)),
        "encoder-decoder": make_language_model(folder / "encoder-decoder", "t5", letters=True),
        "encoder": make_base(folder / "encoder"),
    }


def prepared(folder: Path, base: Path, task: str, keys: tuple[str, ...], row: dict[str, Any]) -> Any:
    folder.mkdir(exist_ok=True)
    rows = [row, {**row, "label": "z"}] if "label" in row else [row]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    overrides = [f"data.path={folder}", f"model.name_or_path={base}", "train.num_train_epochs=1",
                 "data.max_length=32", *keys]  # fmt: skip
    return prepare(load_recipe(task, overrides=overrides).recipe)


@pytest.mark.parametrize("name", SAME)
def test_marks_that_encoding_adds_are_there_once(tmp_path: Path, bases: dict[str, Path], name: str) -> None:
    task, kind, keys, bare, carrying, counts = SAME[name]
    marked_keys = tuple(key.replace("[cd,ef]", '["cd[SEP]", ef]') for key in keys)
    expected = prepared(tmp_path / "bare", bases[kind], task, keys, bare)
    found = prepared(tmp_path / "carrying", bases[kind], task, marked_keys, carrying)
    one, other = expected.encoded["train"], found.encoded["train"]
    assert other.features["input_ids"].tolist() == one.features["input_ids"].tolist()
    assert list(getattr(other, "completions", None) or []) == list(getattr(one, "completions", None) or [])
    assert list(getattr(other, "prompts", [])) == list(getattr(one, "prompts", []))
    assert expected.special_tokens["train"].rows == 0
    assert list(found.special_tokens["train"].carried.values()) == counts
    assert (found.special_tokens["train"].rows > 0) == (carrying != bare)


@pytest.mark.parametrize("task", ["generation", "instruction"])
def test_a_prompt_of_a_chat_has_one_bos(tmp_path: Path, bases: dict[str, Path], task: str) -> None:
    row = {"generation": {"prompt": "ab", "completion": "cd"}, "instruction": {"messages": messages("ab", "cd")}}[task]
    keys = ("task.template=own",) if task == "instruction" else ()
    encoder = prepared(tmp_path, bases["decoder"], task, keys, row).encoder
    bare, carrying = (encoder.chat_ids([{"role": "user", "content": text}]) for text in ("xy", "[CLS]xy"))
    assert bare == carrying
    assert bare.count(2) == 1


def test_a_tokenizer_that_adds_no_bos_keeps_that_of_a_prompt(tmp_path: Path) -> None:
    base = with_bos(make_language_model(tmp_path / "base", "llama", letters=True), framed=False)
    encoded = prepared(tmp_path, base, "generation", (), {"prompt": "[CLS]ab", "completion": "cd"}).encoded["train"]
    assert encoded.row(0).tolist()[:2] == [2, AutoTokenizer.from_pretrained(base).convert_tokens_to_ids("a")]


@given(text=st.text("ab[SEP] \n", max_size=30))
def test_removing_ends_leaves_none_and_nothing_else_changes(text: str) -> None:
    end = without_end(text, "[SEP]")
    assert not end.rstrip().endswith("[SEP]")
    assert text.startswith(end)
    assert set(text[len(end) :].replace("[SEP]", "").split()) == set()
    assert (end == text) == (not text.rstrip().endswith("[SEP]"))
    start = without_start(text, "[SEP]")
    assert not start.startswith("[SEP]")
    assert text.endswith(start)


@pytest.fixture(scope="module")
def tokenizer(bases: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(bases["decoder"])


def test_the_marks_of_a_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    affixes = find_affixes(tokenizer)
    assert Marks.of(tokenizer, affixes, tokenizer.eos_token_id) == Marks("[CLS]", "", "[SEP]")
    letter = tokenizer.convert_tokens_to_ids("a")  # an ordinary token may end texts too
    assert Marks.of(tokenizer, affixes, letter).completions(["bca", "bc"]) == ["bc", "bc"]


TEXTS = ["plain", "a [MASK] b", None, "x[SEP]", "[MASK][SEP]"]
COLUMNS: dict[str, pa.Array] = {
    "texts": pa.array(TEXTS),
    "large texts": pa.array(TEXTS, pa.large_string()),
    "a dictionary": pa.array(TEXTS).dictionary_encode(),
    "several chunks": pa.chunked_array([pa.array(TEXTS[:2]), pa.array(TEXTS[2:])]),
    "lists of messages": pa.array(
        [text and [{"role": "user", "content": "a"}, {"role": "x", "content": text}] for text in TEXTS]
    ),
    "a slice": pa.array(["[PAD]", *TEXTS])[1:],
    "lists in objects": pa.array([{"turns": [text, "b"]} for text in TEXTS]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_special_tokens_are_found_in_every_form_of_text(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    table = pa.table({"x": COLUMNS[name], "number": list(range(len(TEXTS))), "unread": ["[PAD]"] * len(TEXTS)})
    indices, tokens = rows_with_special_tokens(Rows(table, "somewhere"), ["x", "number"], tokenizer)
    assert indices.tolist() == [1, 3, 4]
    assert tokens == {"[MASK]": FoundRows(2, [2, 5], "2, 5"), "[SEP]": FoundRows(2, [4, 5], "4, 5")}


def test_check_counts_them(red, tmp_path: Path, bases: dict[str, Path]) -> None:
    rows = [{"prompt": f"a{'[MASK]' * (number % 2)}", "completion": "b"} for number in range(20)]
    for split, kept in {"train": rows, "validation": rows[:1]}.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    keys = (f"data.path={tmp_path}", f"model.name_or_path={bases['decoder']}", "train.num_train_epochs=1")
    plan = red("check", "generation", *keys, "--json").json["plan"]
    tokens = {"[MASK]": {"rows": 10, "first": [2, 4, 6, 8, 10], "places": "2, 4, 6, 8, 10"}}
    assert plan["special_tokens"] == {"train": {"rows": 10, "tokens": tokens, "carried": {}}}
    shown = " ".join(red("check", "generation", *keys).out.split())
    assert "[MASK] (rows 2, 4, 6, 8, 10 and 5 more)" in shown
