"""Regular expressions and chat templates of users are stopped in time."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from red_cli import limits
from red_cli.edit.config import RedConfig
from red_cli.edit.targets import find_targets, matching
from red_cli.errors import UserError
from red_cli.limits import SECONDS, LimitReached, limited
from red_cli.recipe.sections import Columns
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.tasks.chat.chat_template import ChatTemplate
from red_cli.tasks.chat.split_reader import SplitReader
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.special_texts import Marks
from tests.tasks.chat.test_chat_template import QWEN, TALK, bytes_tokenizer
from tests.tiny import tiny_model

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}PART{% endfor %}{% endfor %}"
# name -> (template, what the message contains)
ENDLESS = {
    "nested loops": (LOOP.replace("PART", ""), "0.5 s"),
    "nested loops that write": (LOOP.replace("PART", "some words {{ b }}"), "takes more than"),  # time or memory
    "a long range": ("{% for a in range(10**9) %}{% endfor %}", "Range too big"),
    "without end": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "too deep nesting"),
    "twice at each": (
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "0.5 s",
    ),
    "a long text": ("{{ messages[0].content * 10**10 }}", "128 MB"),
    "a long constant": ("{{ 'a' * 10**10 }}", "128 MB"),
    "a wide field": ("{{ '%9999999999d' % 1 }}", "128 MB"),
    "a long list": ("{{ ([0] * 10**10) | length }}", "128 MB"),
    "a text that doubles": (
        "{% set n = namespace(x='aa') %}{% for a in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        "128 MB",
    ),
    "a large number": ("{% set n = 10**8 %}{{ 10**n }}", "0.5 s"),
    "deep brackets": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "too deep nesting"),
    "deep loops": ("{% for a in [1] %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),
    "much from little": ("{{ messages[0].content * 2000000 }}", " 2,000,000 characters"),
    "with marks": ("{% generation %}x{% endgeneration %}" + LOOP.replace("PART", ""), "0.5 s"),
    "nothing to divide by": ("{{ 1 // 0 }}", "zero"),
}  # fmt: skip


def chat_of(template: str) -> ChatTemplate:
    return ChatTemplate.of(TemplateChoice(template, {}), bytes_tokenizer(QWEN, None, eos_token=QWEN[2]))


@pytest.mark.parametrize("file", [limits.__file__, contextlib.__file__, __file__])
def test_what_leaves_a_block_is_not_interrupted(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer would stay on, and end whatever runs next."""
    monkeypatch.setattr(limits, "_ends", [0.0])
    names: dict[str, Any] = {"sys": sys}
    exec(compile("frame = sys._getframe()", file, "exec"), names)
    interrupted = pytest.raises(limits._TimeIsUp) if file == __file__ else contextlib.nullcontext()
    with interrupted:
        limits._handle(signal.SIGVTALRM, names["frame"])


@pytest.mark.parametrize(("template", "fact"), ENDLESS.values(), ids=ENDLESS.keys())
def test_a_template_that_does_not_end(template: str, fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda found: None)  # pytest's is so slow that the timer ends it
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        chat_of(template)
    assert caught.value.code == "invalid-template"
    assert fact in str(caught.value)
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def test_a_row_on_which_a_template_does_not_end() -> None:
    """The template works for other rows, so the message names the row."""
    text = "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ m.content ~ '<|im_end|>' }}{% endfor %}"
    text += "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    text += "{% if messages[0].content == 'One?' %}" + LOOP.replace("PART", "") + "{% endif %}"
    table = pa.table({"messages": [TALK[1:2] * 2] * 6 + [TALK]})
    with pytest.raises(UserError, match=r"talks\.jsonl, row 7: .* 0\.5 s") as caught:
        list(SplitReader(chat_of(text), Marks("", "", ""), Rows(table, "talks.jsonl"), Columns()).chunks())
    assert caught.value.code == "invalid-template"


def test_a_template_in_a_thread_ends_too() -> None:
    found: list[Exception] = []

    def render() -> None:
        try:
            chat_of(LOOP.replace("PART", ""))
        except UserError as error:
            found.append(error)

    before = sys.gettrace()
    thread = threading.Thread(target=render)
    thread.start()
    thread.join()
    assert "0.5 s" in str(found[0])
    assert sys.gettrace() is before


PATTERNS = {"repeats in repeats": "([a-z.]+)+X", "many repeats": ".*" * 12 + "X"}
PATHS = [f"encoder.layer.{'a' * 40}.{number}" for number in range(3)]


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_a_pattern_that_takes_too_long(pattern: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=r"takes more than 0\.5 s to match"):
        matching(pattern, PATHS)
    assert time.process_time() - started < 2


def test_patterns_of_a_recipe(red, recipe: Path) -> None:
    model = tiny_model("bert")
    assert len(find_targets(model, RedConfig(target_modules=r".*\.output\.dense"))) == 6
    for method in ("red", "lora"):
        outcome = red("check", recipe, f"method={method}", f"{method}.target_modules=([a-z.0-9]+)+X", "--json")
        error = outcome.json["error"]
        assert (outcome.code, error["code"]) == (2, "unsupported-model")
        assert f"{method}.target_modules: '([a-z.0-9]+)+X'" in error["message"]


def test_layers_are_bounded_by_the_model(red, recipe: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for layers in ('"0:999999999"', '"999999998:999999999"', "[0, 999999999]", '"3:"', '"2:1"'):
        outcome = red("check", recipe, f"red.layers={layers}", "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, "unsupported-model")
        assert "layers 0 to 2" in outcome.err
    assert red("check", recipe, 'red.layers="0:3"').code == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


def spin() -> None:
    while True:
        pass


def spin_and_swallow() -> None:
    while True:
        with contextlib.suppress(Exception):  # as a library may
            spin()


@pytest.mark.parametrize("endless", [spin, spin_and_swallow, lambda: re.fullmatch("(a+)+b", "a" * 60)])
def test_what_was_there_before_is_there_again(endless: Callable[[], object]) -> None:
    handler, memory = signal.getsignal(signal.SIGVTALRM), resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(LimitReached), limited():
        endless()
    with limited():
        pass
    assert signal.getsignal(signal.SIGVTALRM) == handler
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert resource.getrlimit(resource.RLIMIT_AS) == memory


def test_time_that_is_not_spent_does_not_count() -> None:
    with limited():
        time.sleep(SECONDS + 0.2)


def test_a_fault_inside_stays_itself() -> None:
    with pytest.raises(KeyError), limited():
        raise KeyError
