"""The table of names on the page on migrating agrees with the answers that commands give."""

from __future__ import annotations

import re

import pytest

from red_cli.recipe.aliases import alias_of
from red_cli.recipe.schema import key_paths
from tests.documents.pages import ROOT

PAGE = (ROOT / "docs" / "guide" / "migrating.md").read_text()
ROWS = [
    [re.findall("`(.*?)`", cell) for cell in line.strip("|").split("|")]
    for line in re.findall(r"^\| `\w+(?:\.\w+)*` \|.*\|$", PAGE, re.MULTILINE)
    if not line.startswith("| `red ")
]
NAMES = [(key, name) for (key,), *others in ROWS for names in others for name in names]


def test_the_table_has_rows_of_keys() -> None:
    assert len(ROWS) >= 30
    assert {key for (key,), *_ in ROWS} <= set(key_paths())


@pytest.mark.parametrize(("key", "name"), sorted({*NAMES}))
def test_a_name_is_answered_with_its_key(key: str, name: str) -> None:
    """By the table of aliases, or because the last part of the key is that name."""
    alias = alias_of(name)
    named = {each.partition("=")[0] for each in alias.keys} if alias else set()
    assert key in named or key.rpartition(".")[2] == name
