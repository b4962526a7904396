"""Encoded splits in the cache: the same as without it, found again, and never a reason to fail."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import PreTrainedTokenizerFast

from red_cli.recipe.schema import Recipe
from red_cli.tasks.base import Encoded
from red_cli.tasks.build import build_task
from red_cli.tasks.data.disk_cache import FOLDER_VARIABLE, SIZE_VARIABLE, DiskCache
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.texts import TextsOfRows
from red_cli.tasks.encoded import cached
from red_cli.tasks.encoded.cached import CacheUse, encode_splits, uses_text
from red_cli.tasks.encoded.fingerprint import encoder_fingerprint, fingerprint
from red_cli.tasks.text import token_ids
from tests.conftest import Outcome
from tests.failures import fails
from tests.tasks.bound import bound
from tests.tasks.chat.test_chat_template import bytes_tokenizer
from tests.tiny import tiny_config

TEMPLATE = (
    "{% for message in messages %}{{ message.content + ('</s>' if message.role == 'assistant' else '|') }}{% endfor %}"
)
REWRITES = (  # earlier answers
    "{% for message in messages %}{{ 'a' if message.role == 'assistant' and not loop.last else message.content }}"
    "{{ '</s>' if message.role == 'assistant' else '|' }}{% endfor %}"
)
PAIRS = {"prompt": ["ab c", "the film", "x" * 70], "completion": [" de", "fgh", " y"]}
TALKS = [
    [{"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}]
    for text in ("ab c", "the film", "x" * 40)
]
LABELLED = {"text": ["good", "bad", "x" * 80], "other": ["a", "b", "c"], "label": ["yes", "no", "yes"]}
NAMED = {"name": "classification", "labels": ["no", "yes"]}
MEANINGS = {
    "meaning_representation": ["name[Blue], area[centre]", "name[X]", "name[Y]"],
    "human_reference": ["Blue is there.", "X.", "Y."],
}
QUESTIONS = {
    **PAIRS,
    "answer": ["true", "false", "true"],
    "options": [["true", "false"]] * 3,
    "task": ["boolq"] * 3,
}

# task -> (its settings, its columns, its data section, the type of its base)
TASKS: dict[str, tuple[dict, dict, dict, str]] = {
    "generation": ({"name": "generation"}, PAIRS, {}, "gpt2"),
    "generation, prompts count": ({"name": "generation", "train_on_prompt": True}, PAIRS, {}, "gpt2"),
    "generation by templates": (
        {"name": "generation", "prompt_template": "Q: {prompt} A:", "completion_template": " {completion}"},
        PAIRS,
        {},
        "gpt2",
    ),
    "generation, no completions": ({"name": "generation"}, {"prompt": PAIRS["prompt"]}, {}, "gpt2"),
    "generation, encoder-decoder": ({"name": "generation"}, PAIRS, {}, "t5"),
    "e2e": ({"name": "e2e", "linearization": "table"}, MEANINGS, {}, "gpt2"),
    "commonsense": ({"name": "commonsense"}, QUESTIONS, {}, "gpt2"),
    "instruction": ({"name": "instruction", "template": TEMPLATE}, {"messages": TALKS}, {}, "gpt2"),
    "instruction, some left out": (
        {"name": "instruction", "template": TEMPLATE},
        {"messages": TALKS},
        {"too_long": "drop"},
        "gpt2",
    ),
    "instruction, several examples of a row": (
        {"name": "instruction", "template": REWRITES},
        {"messages": [TALKS[2], [*TALKS[0], *TALKS[1]], [*TALKS[1], *TALKS[0], *TALKS[1]]]},
        {"too_long": "drop"},
        "gpt2",
    ),
    "instruction, to be answered": (
        {"name": "instruction", "template": TEMPLATE},
        {"messages": [talk[:1] for talk in TALKS]},
        {},
        "gpt2",
    ),
    "classification": (NAMED, LABELLED, {}, "bert"),
    "classification of pairs": (NAMED, LABELLED, {"columns": {"text_pair": "other"}}, "bert"),
    "classification, labels hidden": (NAMED, {"text": LABELLED["text"], "label": [None] * 3}, {}, "bert"),
    "regression": ({"name": "regression"}, {**LABELLED, "label": [1.5, 2.0, -3.0]}, {}, "bert"),
    "text to text": ({**NAMED, "text_to_text": True}, LABELLED, {}, "t5"),
}


def recipe_of(settings: dict, data: dict) -> Recipe:
    return Recipe.model_validate(
        {"task": settings, "model": {"name_or_path": "base"}, "data": {"path": "data", **data}}
    )


def encoder_of(
    name: str, max_length: int = 64, tokenizer: Any = None, settings: dict | None = None, **data: Any
) -> Any:
    """The encoder of a task, with other settings and data keys where they are given."""
    given, _, keys, model_type = TASKS[name]
    task = build_task(recipe_of({**given, **(settings or {})}, {**keys, **data}), tiny_config(model_type))
    return bound(task, tokenizer or bytes_tokenizer(["</s>", "<pad>"], eos_token="</s>", pad_token="<pad>"), max_length)


def rows_of(name: str = "generation", **changes: list) -> Rows:
    return Rows(pa.table({**TASKS[name][1], **changes}), "data/train.jsonl")


def encode(encoder: Any, rows: Rows) -> tuple[Encoded, CacheUse]:
    encoded, uses = encode_splits(encoder, {"train": rows})
    return encoded["train"], uses["train"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, which takes splits of any size."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    monkeypatch.setattr(cached, "SMALLEST", 0)
    return tmp_path / "cache" / "rows"


def assert_same(found: Encoded, expected: Encoded) -> None:
    assert type(found) is type(expected)
    for field in fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, Rows):
            assert one.table.equals(other.table)
            assert [one.number(row) for row in range(len(found))] == [other.number(row) for row in range(len(found))]
        elif isinstance(other, dict):
            assert one.keys() == other.keys()
            for key, value in other.items():
                assert np.array_equal(one[key], value)
        elif isinstance(other, np.ndarray):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
        elif isinstance(other, Sequence):  # lists, and texts in Arrow or made from rows
            assert list(one) == list(other)
        else:
            assert one == other


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_encoded_alike_with_the_cache(name: str) -> None:
    encoder, rows = encoder_of(name), rows_of(name)
    expected = encoder.encode(rows)
    for state in ("written", "read", "read"):
        found, use = encode(encoder, rows)
        assert use.state == state, use
        assert_same(found, expected)
    again, use = encode(encoder_of(name), rows_of(name))  # as another process would
    assert use.state == "read"
    assert_same(again, expected)
    indices = np.arange(len(expected))
    ours, theirs = encoder.collate(again, indices), encoder.collate(expected, indices)
    assert all(np.array_equal(ours.inputs[key], value) for key, value in theirs.inputs.items())


def test_a_second_start_tokenizes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started = {name: (encoder_of(name), rows_of(name)) for name in TASKS}
    for encoder, rows in started.values():
        assert encode(encoder, rows)[1].state == "written"

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(PreTrainedTokenizerFast, "_encode_plus", refuse)
    monkeypatch.setattr(token_ids, "_has_own_code", refuse)
    for encoder, rows in started.values():
        assert encode(encoder, rows)[1].state == "read"
        with pytest.raises(AssertionError, match="tokenized again"):
            encoder.encode(rows)


def other_tokenizer(change: Callable[[PreTrainedTokenizerFast], object]) -> PreTrainedTokenizerFast:
    made = bytes_tokenizer(["</s>", "<pad>"], eos_token="</s>", pad_token="<pad>")
    change(made)
    return made


OTHERS: dict[str, Callable[[], tuple[Any, Rows]]] = {
    "a letter": lambda: (encoder_of("generation"), rows_of(completion=[" de", "fgi", " y"])),
    "the order": lambda: (encoder_of("generation"), rows_of().take([1, 0, 2])),
    "the file": lambda: (encoder_of("generation"), replace(rows_of(), source="data/other.jsonl")),
    "the rows' numbers": lambda: (encoder_of("generation"), replace(rows_of(), source_indices=np.array([2, 4, 5]))),
    "fewer rows": lambda: (encoder_of("generation"), rows_of().take([0, 1])),
    "a column's name": lambda: (
        encoder_of("generation", columns={"completion": "answer"}),
        Rows(rows_of().table.rename_columns(["prompt", "answer"]), "data/train.jsonl"),
    ),
    "max_length": lambda: (encoder_of("generation", 63), rows_of()),
    "too_long": lambda: (encoder_of("generation", 100, too_long="refuse"), rows_of()),
    "prompts count": lambda: (encoder_of("generation", settings={"train_on_prompt": True}), rows_of()),
    "a template": lambda: (encoder_of("generation", settings={"prompt_template": "{prompt}!"}), rows_of()),
    "the end token": lambda: (encoder_of("generation", settings={"end_token": "<pad>"}), rows_of()),
    "a token": lambda: (
        encoder_of("generation", tokenizer=other_tokenizer(lambda it: it.add_tokens("film"))),
        rows_of(),
    ),
    "the side": lambda: (
        encoder_of("generation", tokenizer=other_tokenizer(lambda it: setattr(it, "truncation_side", "left"))),
        rows_of(),
    ),
    "the kind of base": lambda: (encoder_of("generation, encoder-decoder"), rows_of()),
    "label names": lambda: (
        encoder_of("classification", settings={"labels": ["yes", "no"]}),
        rows_of("classification"),
    ),
    "names of the ids": lambda: (
        encoder_of("classification"),
        replace(rows_of("classification"), label_names=["yes", "no"]),
    ),
    "a pair": lambda: (encoder_of("classification of pairs"), rows_of("classification")),
    "a chat template": lambda: (
        encoder_of("instruction", settings={"template": TEMPLATE.replace("|", "/")}),
        rows_of("instruction"),
    ),
    "the template's variables": lambda: (
        encoder_of("instruction", settings={"template_variables": {"thinking": False}}),
        rows_of("instruction"),
    ),
}


def key_of(encoder: Any, rows: Rows) -> str:
    return fingerprint(encoder_fingerprint(encoder), rows)


def test_every_change_makes_another_fingerprint() -> None:
    keys = {name: key_of(encoder_of(name), rows_of(name)) for name in TASKS}
    keys |= {f"another: {name}": key_of(*make()) for name, make in OTHERS.items()}
    twice = {name: key_of(encoder_of(name), rows_of(name)) for name in TASKS}
    assert twice == {name: keys[name] for name in TASKS}
    by_key: dict[str, list[str]] = {}
    for name, key in keys.items():
        by_key.setdefault(key, []).append(name)
    assert [names for names in by_key.values() if len(names) > 1] == [
        ["generation, prompts count", "another: prompts count"],
        ["generation, encoder-decoder", "another: the kind of base"],
        ["classification of pairs", "another: a pair"],
    ]


def test_what_takes_no_part_leaves_the_fingerprint() -> None:
    expected = key_of(encoder_of("generation"), rows_of())
    moved = encoder_of("generation", path="elsewhere")
    truncating = other_tokenizer(lambda it: it(["some text"], truncation=True, max_length=2, padding="max_length"))
    parts = pa.concat_tables([rows_of().table.slice(0, 1), rows_of().table.slice(1)]).combine_chunks()
    assert key_of(moved, rows_of()) == expected
    assert key_of(encoder_of("generation", tokenizer=truncating), rows_of()) == expected
    assert key_of(encoder_of("generation"), Rows(parts, "data/train.jsonl")) == expected


def test_the_code_and_the_date_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    from red_cli.tasks.encoded import fingerprint as module

    class Tomorrow(module.date):
        @classmethod
        def today(cls) -> Any:
            return cls(2031, 1, 1)

    dated = TEMPLATE + "{{ '' if strftime_now is defined else '' }}"
    encoders = {"dated": encoder_of("instruction", settings={"template": dated}), "other": encoder_of("instruction")}
    before = {name: encoder_fingerprint(encoder) for name, encoder in encoders.items()}
    monkeypatch.setattr(module, "date", Tomorrow)
    after = {name: encoder_fingerprint(encoder) for name, encoder in encoders.items()}
    assert [name for name in before if before[name] != after[name]] == ["dated"]
    monkeypatch.setattr(module, "code_digest", lambda rooms: "other code")
    assert encoder_fingerprint(encoders["other"]) != after["other"]


def test_arrays_are_views_of_the_file() -> None:
    encoder = encoder_of("instruction")
    for _ in range(2):
        encoded, _ = encode(encoder, rows_of("instruction"))
        for array in (encoded.features["input_ids"], encoded.offsets, encoded.labels, encoded.loss_mask):
            assert not array.flags.owndata
            assert not array.flags.writeable
        assert isinstance(encoded.prompts, TextsOfRows)
        texts = list(encoded.prompts)
        assert [encoded.prompts[1], encoded.prompts[-1], *encoded.prompts[:1]] == [texts[1], texts[-1], texts[0]]


def damage_by(change: Callable[[bytearray], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": damage_by(bytearray.clear),
    "cut": damage_by(lambda content: content.__delitem__(slice(len(content) // 2, None))),
    "other content": damage_by(lambda content: content.__setitem__(slice(None), b"no arrow" * 99)),
    "zeros inside": damage_by(lambda content: content.__setitem__(slice(900, -900), bytes(len(content) - 1800))),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_is_written_again(what: str, cache: Path) -> None:
    encoder, rows = encoder_of("instruction"), rows_of("instruction", messages=TALKS * 200)
    expected = encoder.encode(rows)
    encode(encoder, rows)
    (path,) = cache.glob("*.arrow")
    DAMAGE[what](path)
    for state in ("written", "read"):
        found, use = encode(encoder, rows)
        assert use.state == state
        assert_same(found, expected)


@pytest.mark.parametrize("array", ["input_ids", "loss_mask"])
def test_a_changed_byte_is_noticed(array: str, cache: Path) -> None:
    encoder, rows = encoder_of("instruction"), rows_of("instruction")
    encoded, _ = encode(encoder, rows)
    (path,) = cache.glob("*.arrow")
    content = bytearray(path.read_bytes())
    part = {"loss_mask": encoded.loss_mask, **encoded.features}[array].tobytes()
    content[bytes(content).index(part) + 5] ^= 1
    path.unlink()  # the map of the first is left as it is
    path.write_bytes(content)
    found, use = encode(encoder, rows)
    assert (use.state, "damaged" in use.problem) == ("written", True)
    assert_same(found, encoder.encode(rows))


def test_a_cache_that_cannot_be_used_is_no_reason_to_fail(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, rows = encoder_of("generation"), rows_of()
    expected = encoder.encode(rows)

    def unused(fact: str) -> None:
        found, use = encode(encoder, rows)
        assert use.state == "unused"
        assert fact in uses_text({"train": use})
        assert_same(found, expected)
        assert not list(tmp_path.rglob("*.arrow")) + list(tmp_path.rglob("*.tmp"))

    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    unused("file")
    monkeypatch.setenv(FOLDER_VARIABLE, str(cache.parent))
    monkeypatch.setenv(SIZE_VARIABLE, "1e-7")
    unused(SIZE_VARIABLE)
    monkeypatch.setenv(SIZE_VARIABLE, "0")
    unused(SIZE_VARIABLE)
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        unused("No space left")
    monkeypatch.setenv(SIZE_VARIABLE, "much")
    with fails("invalid-option", SIZE_VARIABLE):
        encode(encoder, rows)


def test_faults_of_rows_are_reported_and_leave_nothing(cache: Path) -> None:
    with fails("invalid-row", "row 2"):
        encode(encoder_of("generation"), rows_of(completion=["a", None, "b"]))
    assert not list(cache.iterdir())


def test_one_of_several_encodes_and_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, rows = encoder_of("generation"), rows_of()
    kind, calls, found = type(encoder), [], {}
    original, started = kind.encode, threading.Event()

    def slow(self: Any, rows: Rows) -> Encoded:
        calls.append(1)
        started.wait(1)
        return original(self, rows)

    monkeypatch.setattr(kind, "encode", slow)
    threads = [threading.Thread(target=lambda: found.setdefault(threading.get_ident(), encode(encoder, rows)))
               for _ in range(4)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert sorted(use.state for _, use in found.values()) == ["read", "read", "read", "written"]


def test_small_splits_are_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "SMALLEST", 10_000)
    encoded, uses = encode_splits(encoder_of("generation"), {"train": rows_of(), "test": rows_of().take([0] * 1000)})
    assert list(uses) == ["test"]
    assert list(encoded) == ["train", "test"]
    assert len(list(cache.glob("*.arrow"))) == 1


def test_red_says_where_encoded_rows_are(red: Callable[..., Outcome], recipe: Path, cache: Path) -> None:
    first, second = (red("check", recipe, "--json").json["plan"]["encoded_rows"] for _ in range(2))
    assert f"kept in {cache}" in first
    assert f"read from {cache}" in second
    assert DiskCache.of_user().folder == cache
    shown = red("check", recipe).out
    assert "encoded rows" in shown
