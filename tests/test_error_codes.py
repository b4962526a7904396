"""Every error has a code that programs can rely on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from red_cli.error_codes import MEANINGS, Code

PACKAGE = Path(__file__).parents[1] / "red_cli"
CODES = set(get_args(Code))


def strings() -> Iterator[str]:
    """Every string of the package outside the table of codes."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "error_codes.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_each_code_has_a_meaning_and_a_use() -> None:
    assert MEANINGS.keys() == CODES
    assert sorted(CODES - set(strings())) == []


def test_codes_are_listed_in_order() -> None:
    assert list(MEANINGS) == list(get_args(Code)) == sorted(CODES)


# Arguments -> code, exit code
ERRORS = {
    "a folder that does not exist": (("eval", "{folder}/nothing", "--json"), "folder-not-found"),
    "a recipe that does not exist": (("check", "{folder}/nothing.yaml", "--json"), "recipe-not-found"),
    "an option without effect": (("eval", "{folder}", "--shots", "3", "--json"), "invalid-option"),
    "an unknown metric": (
        ("score", "-p", "{folder}/a", "-r", "{folder}/b", "--metrics", "BLEUU", "--json"),
        "unknown-name",
    ),
}


@pytest.mark.parametrize(("arguments", "code"), ERRORS.values(), ids=ERRORS)
def test_json_has_the_code(red, tmp_path: Path, arguments: tuple[str, ...], code: str) -> None:
    outcome = red(*(argument.format(folder=tmp_path) for argument in arguments))
    assert outcome.code == 2
    error = outcome.json["error"]
    assert error["code"] == code
    assert outcome.err.startswith(f"error: {error['message']}")
    plain = red(*(argument.format(folder=tmp_path) for argument in arguments if argument != "--json"))
    assert (plain.out, plain.err) == ("", outcome.err)


def test_json_has_each_fault_of_a_recipe(red, recipe: Path) -> None:
    error = red("check", recipe, "train.sed=1", "model.dropout=2", "--json").json["error"]
    assert error["code"] == "invalid-recipe"
    found = {(fault["key"], fault["code"]) for fault in error["faults"]}
    assert found == {("train.sed", "unknown-key"), ("model.dropout", "invalid-value")}
    assert all(fault["where"].startswith("command line") and fault["message"] for fault in error["faults"])
