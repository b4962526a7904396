"""Each message of the page on troubleshooting appears as it is shown there, with its code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from red_cli.error_codes import MEANINGS
from tests.documents.pages import ROOT
from tests.documents.workspaces.troubleshooting import prepare

PAGE = (ROOT / "docs" / "guide" / "troubleshooting.md").read_text()
SCREENS = re.findall(r"### ([\w-]+)\n\n```text\n\$ (red .*)\n((?:.*\n)+?)```", PAGE)
ROWS = re.findall(r"^\| `([\w-]+)` \| `(red [^`]*)` \| (.*?) \|", PAGE, re.MULTILINE)
CODES = [
    *re.findall(r"^### ([\w]+-[\w-]+)$", PAGE, re.MULTILINE),
    *re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE),
]
FIRST = re.findall(r"```text\n\$ (red .*)\n((?:.*\n)+?)```", PAGE)[0]
PLACE, PROJECT = "/home/me", "/home/me/red"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("troubleshooting")
    prepare(folder)
    return folder


@pytest.mark.parametrize(
    ("code", "command", "shown"),
    [*SCREENS, *ROWS, ("invalid-recipe", *FIRST)],
    ids=lambda value: value if value in MEANINGS else "",
)
def test_a_message_appears(
    red, folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, command: str, shown: str
) -> None:
    monkeypatch.chdir(folder)
    outcome = red(*shlex.split(command)[1:], "--json")
    error = outcome.json["error"]
    assert code in {error["code"], *(fault["code"] for fault in error.get("faults", []))}
    text = outcome.err.replace(str(folder), PLACE).replace(str(ROOT), PROJECT).replace(" --json", "")
    if shown.startswith("error: "):
        assert text.partition("error: ")[2] == shown.partition("error: ")[2]
    else:
        assert shown in text


def test_the_codes_of_the_page_exist_and_stand_there_once() -> None:
    assert set(CODES) <= MEANINGS.keys()
    assert len(CODES) == len(set(CODES)) >= 25
    assert len(SCREENS) + len(ROWS) >= 25
