"""YAML files and values: merge keys, bounds, and text that is not YAML."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from red_cli.errors import UserError, one_line, shown
from red_cli.recipe.load import load_recipe
from red_cli.recipe.yaml_file import read_document
from tests.failures import codes

START = """task: {name: classification}
model: {name_or_path: org/model}
data: {path: org/data}
"""


def nested_aliases(first: str, inside: str) -> str:
    """Nine keys, each with ten aliases of the one before: a few hundred bytes that expand to a billion nodes."""
    lines = [f"a: &a {first}"]
    lines += [
        f"{name}: &{name} {inside.format(','.join([f'*{before}'] * 10))}"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join(lines) + "\n"


IN_A_VALUE = "[&a [x,x,x,x,x,x,x,x,x,x], " + ", ".join(
    f"&{name} [{','.join([f'*{before}'] * 10)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
) + "]"  # fmt: skip

# name -> (text after START, overrides, code, what the message contains)
REFUSED = {
    "nested aliases": (nested_aliases("[x,x,x]", "[{}]"), [], "invalid-yaml", "20,000"),
    "nested merges": (nested_aliases("{k: 1}", "{{<<: [{}]}}"), [], "invalid-yaml", "20,000"),
    "nested aliases of a variant": (
        "variants:\n  big:\n    " + nested_aliases("[x,x,x]", "[{}]").replace("\n", "\n    "), [], "invalid-yaml",
        "20,000",
    ),
    "nested aliases on the command line": ("", [f"train.report_to={IN_A_VALUE}"], "invalid-yaml", "20,000"),
    "and in a mapping": ("", [f"train={{report_to: {IN_A_VALUE}}}"], "invalid-yaml", "20,000"),
    "a long text many times": (f"a: &a {'x' * 500_000}\nb: [{'*a,' * 1000}]\n", [], "invalid-yaml", "20,000"),
    "a list that holds itself": ("a: &a [*a]\n", [], "invalid-yaml", "line 4: not valid YAML: an alias"),
    "a mapping that holds itself": ("a: &a {b: {c: *a}}\n", [], "invalid-yaml", "line 4: not valid YAML: an alias"),
    "a mapping that merges itself": ("a: &a {<<: *a}\n", [], "invalid-yaml", "line 4: not valid YAML: an alias"),
    "a value that holds itself": ("", ["a=&a [*a]"], "invalid-yaml", "an alias"),
    "deep": ("a: " + "[" * 100_000, [], "invalid-yaml", "line 4: not valid YAML: keys and lists are nested"),
    "deep and complete": ("a: " + "{b: " * 60 + "1" + "}" * 60, [], "invalid-yaml", "more than 50"),
    "a deep key": ("", [".".join("a" * 5000) + "=1"], "invalid-option", "KEY=VALUE"),
    "many keys": ("".join(f"k{number}: 1\n" for number in range(50_000)), [], "invalid-yaml", "20,000"),
    "many unknown keys": ("".join(f"k{number}: 1\n" for number in range(9_000)), [], "unknown-key", " more"),
    "many variants": (
        "variants:\n" + "".join(f"  v{number}: {{}}\n" for number in range(5_000)), [], "invalid-yaml", "variants"
    ),
    "a large file": ("a: " + "x" * 2_000_000, [], "invalid-yaml", "1,000,000 characters"),
    "a very large file": ("a: " + "x" * 5_000_000, [], "invalid-yaml", "too large"),
    "many digits": ("train: {seed: " + "1" * 5000 + "}\n", [], "invalid-yaml", "line 4: train.seed: '1111"),
    "many digits in a value": ("", ["train.seed=" + "1" * 5000], "invalid-yaml", "whole number"),
    "digits that can be read": ("", ["train.max_steps=" + "1" * 4000], "invalid-value", "1000000000"),
    "as a fraction": ("", ["train.learning_rate=" + "1" * 4000], "invalid-value", "a number or auto"),
    "a large exponent": ("", ["train.seed=1e999999"], "invalid-value", "got inf"),
    "NUL": ("a: \0\n", [], "invalid-yaml", "special characters"),
    "an escaped NUL": ("", ['data.path="a\\0b"'], "invalid-yaml", "data.path: "),
    "an escaped NUL in a file": ('output: {dir: "a\\0b"}\n', [], "invalid-yaml", "line 4: output.dir: "),
    "half a pair": ("", ['data.path="\\ud800"'], "invalid-yaml", r"'\ud800'"),
    "a byte that is no UTF-8": ("", ["data.path=\udcff"], "invalid-yaml", "data.path: "),
    "such a key": ("", ["\udcff=1"], "invalid-option", r"command line, \udcff=1: "),
    "such a key in a value": ("", ['task={template_variables: {"\\0": 1}}'], "invalid-yaml", "task: "),
    "a long key": ("", ["x" * 100_000 + "=1"], "unknown-key", "command line, xxx"),
    "a tag that does not fit": ("train: {seed: !!int x}\n", [], "invalid-yaml", "line 4: train.seed: 'x'"),
    "a tag of another type": ("train: {bf16: !!bool x}\n", [], "invalid-yaml", "line 4: train.bf16: 'x'"),
    "a tag of a time": ("train: {seed: !!timestamp x}\n", [], "invalid-yaml", "timestamp"),
    "a tag of Python": ("a: !!python/name:os.system\n", [], "invalid-yaml", "could not determine a constructor"),
    "a merge of a text": ("train: {<<: x}\n", [], "invalid-yaml", "line 4: not valid YAML: <<"),
    "two merges": ("a: &a {}\ntrain: {<<: *a, <<: *a}\n", [], "invalid-yaml", "line 5: train.<<: set twice"),
    "a list as a key": ("? [a]\n: 1\n", [], "invalid-yaml", "line 4: ?: "),
    "a number as a key": ("train: {1: 2}\n", [], "invalid-yaml", "line 4: train.1: "),
    "twice in a value": ("", ["train={seed: 1, seed: 2}"], "invalid-yaml", "seed: set twice"),
    "no key": ("", ["=1"], "invalid-option", "KEY=VALUE"),
    "an empty part of a key": ("", ["train..seed=1"], "invalid-option", "KEY=VALUE"),
    # keys of a file that are written with dots
    "dots": ("train.max_steps: 3\n", [], "unknown-key", "line 4: train.max_steps: "),
    "dots in a section": ("train: {adam.beta1: 0.9}\n", [], "unknown-key", ": train: {adam_beta1: 0.9}"),
    "dots in a variant": ("variants: {a: {train.max_steps: 3}}\n", [], "unknown-key", ": train: {max_steps: 3}"),
    "dots before a section": (
        "eval.generation: {num_beams: 3}\n", [], "unknown-key", ": eval: {generation: {num_beams: 3}}"
    ),
    "dots of nothing known": ("foo.bar: 3\n", [], "unknown-key", ": foo: {bar: 3}"),
    "dots in a value": ("", ["train={adam.beta1: 0.9}"], "unknown-key", ": train: {adam_beta1: 0.9}"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "overrides", "code", "fact"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_quickly(tmp_path: Path, text: str, overrides: list[str], code: str, fact: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(START + text, encoding="utf-8")
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as caught:
        load_recipe(str(path), None, overrides)
    assert code in codes(caught.value)
    assert fact in str(caught.value)
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB
    assert len(str(caught.value).replace(str(path), "")) < 5_000


def test_a_command_says_so_within_its_bounds(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(START + nested_aliases("[x,x,x]", "[{}]"))
    command = [sys.executable, "-m", "red_cli", "recipes", "show", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "invalid-yaml")
    assert len(done.stderr.splitlines()) == 1


MERGED = """
variants:
  small: &s
    train: {learning_rate: 2e-3, seed: 1}
    model: {dtype: bfloat16}
  big:
    <<: *s
    train: {learning_rate: 5e-3}
  both:
    train: {<<: [{seed: 5}, {seed: 6, batch_size: 8}], learning_rate: 7e-3}
"""


def test_a_key_of_its_own_wins_over_a_merged_one(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(START + MERGED)
    small, big, both = (load_recipe(str(path), name).recipe for name in ("small", "big", "both"))
    assert (small.train.learning_rate, small.train.seed, small.model.dtype) == (2e-3, 1, "bfloat16")
    assert (big.train.learning_rate, big.train.seed, big.model.dtype) == (5e-3, 42, "bfloat16")
    assert (both.train.learning_rate, both.train.seed, both.train.batch_size) == (7e-3, 5, 8)


def test_lines_of_merged_keys_are_those_where_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(START + MERGED.replace("dtype: bfloat16", "dtyp: bfloat16").replace("5e-3", "x"))
    document = read_document(path)
    assert document.lines["variants", "big", "model"] == document.lines["variants", "small", "model"] == 8
    assert document.lines["variants", "big", "train"] == 11
    with pytest.raises(UserError) as caught:
        load_recipe(str(path), "big")
    found = {(fault["where"], fault["key"], fault["code"]) for fault in caught.value.faults}
    assert (f"{path}, line 8", "model.dtyp", "unknown-key") in found
    assert (f"{path}, line 11", "train.learning_rate", "invalid-value") in found


def test_a_key_set_twice_is_refused_with_a_merge_too(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(START + MERGED + "    train: {seed: 3}\n")
    with pytest.raises(UserError, match=r"line 14: variants\.both\.train: ") as caught:
        load_recipe(str(path))
    assert codes(caught.value) == ["invalid-yaml"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", r"'a\nb'"), ("x" * 80, "'" + "x" * 78 + "…"), ([1, "a"], "[1, 'a']"), (None, "None"),
        (10**5000, "<int>"), ("\udcff\0", r"'\udcff\x00'"), (list(range(99)), str(list(range(99)))[:79] + "…"),
    ],
    ids=["lines", "long", "list", "nothing", "number", "no text", "long list"],
)  # fmt: skip
def test_values_in_messages(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(shown(value)) <= 80


def test_text_in_messages() -> None:
    assert one_line("train.seed=a\tb\n") == r"train.seed=a\tb\n"
    assert one_line("x" * 81) == "x" * 79 + "…"
    assert one_line("ü" * 80) == "ü" * 80
