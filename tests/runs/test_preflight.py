"""What is missing is reported before torch or transformers are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from red_cli.train.lock import FolderLock
from tests.failures import assert_failed

HEAVY = {"torch", "transformers", "accelerate", "datasets"}
# Runs the command line, and says on the last line of standard output what it has imported.
PROBE = f"""
import sys
from red_cli.cli import main
try:
    main()
finally:
    print(sorted({HEAVY} & set(sys.modules)))
"""
# what is typed, `{}` standing for the folder of the test -> a part of the message
COMMANDS = {
    "no recipe": (("train", "{}/nowhere.yaml"), "no such file"),
    "no bundled recipe": (("check", "nowhere"), "no such recipe"),
    "check without a base": (("check", "{recipe}", "model.name_or_path={}/nowhere"), "no such model folder"),
    "train without a base": (("train", "{recipe}", "model.name_or_path={}/nowhere"), "no such model folder"),
    "check without data": (("check", "{recipe}", "data.path={}/nowhere"), "no such file or folder"),
    "train without a file": (("train", "{recipe}", "data.path=null", "data.train={}/nowhere.csv"), "no such file"),
    "check with another column": (("check", "{recipe}", "data.columns.text=review"), "no column 'review'"),
    "check with another label": (("check", "{recipe}", "data.columns.label=stars"), "no column 'stars'"),
    "check without a split": (
        ("check", "{recipe}", "data.path=null", "data.train={data}/train.csv"),
        "no validation split",
    ),
    "check with a URL": (("check", "{recipe}", "data.path=https://example.org/data.csv"), "is a URL"),
    "check with a folder as file": (("check", "{recipe}", "data.path=null", "data.train={data}"), "is a folder"),
    "eval of other data": (("eval", "{}/run", "data.path={}/nowhere"), "no such file or folder"),
    "eval without a column": (("eval", "{}/run", "--split", "test", "data.columns.text=review"), "'review'"),
    "train into another folder": (("train", "{recipe}", "output.dir={}"), "is not a run folder"),
    "train again otherwise": (("train", "{recipe}", "train.weight_decay=0.5"), "0.0 -> 0.5"),
    "eval of no folder": (("eval", "{}/nowhere"), "no such folder"),
    "eval of another folder": (("eval", "{}"), "is not a run folder"),
    "eval with a late key": (("eval", "{}/run", "train.seed=1"), "train.seed=1"),
    "eval of no split": (("eval", "{}/run", "--split", "nowhere"), "no nowhere split"),
    "chat with no folder": (("chat", "{}/nowhere"), "no such folder"),
    "export of no folder": (("export", "{}/nowhere", "-o", "{}/out"), "no such folder"),
    "export without a base": (("export", "{}/run", "-o", "{}/out", "--base", "{}/nowhere"), "no such model folder"),
    "report on no folder": (("report", "{}/nowhere"), "no such folder"),
}


def answer(*arguments: str) -> tuple[int, str, str]:
    """Exit code, what is imported, and the message of a command in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize(("typed", "message"), COMMANDS.values(), ids=COMMANDS.keys())
def test_it_is_said_at_once(finished: Path, recipe: Path, data: Path, typed: tuple[str, ...], message: str) -> None:
    folder = finished.parent
    parts = [part.replace("{recipe}", str(recipe)).replace("{data}", str(data)) for part in typed]
    code, imported, said = answer(*(part.format(folder) for part in parts))
    assert (code, imported) == (2, "[]"), said
    assert message in said


@pytest.mark.parametrize(
    ("name", "start", "row"),
    [("train.csv", "texts,label", "a,x"), ("train.tsv", "texts\tlabel", "a\tx"), ("train.jsonl", "", '{"texts": "a"}')],
)
def test_a_column_is_missed_by_the_start_of_a_large_file(
    recipe: Path, tmp_path: Path, name: str, start: str, row: str
) -> None:
    (tmp_path / name).write_text("\n".join([start, *[row] * 200_000]))
    code, imported, said = answer("check", str(recipe), f"data.path={tmp_path / name}", "data.validation_share=0.5")
    assert (code, imported) == (2, "[]"), said
    assert "no column 'text'" in said


def test_a_key_of_later_rows_is_a_column(recipe: Path, tmp_path: Path) -> None:
    lines = ['{"text": "good"}'] * 200 + ['{"text": "good", "label": "x"}', '{"text": "bad", "label": "y"}'] * 5
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    keys = [f"data.path={tmp_path / 'train.jsonl'}", "data.validation_share=0.5"]
    code, _, said = answer("check", str(recipe), *keys)
    assert (code, "200 of 210 rows" in said) == (2, True), said
    assert answer("check", str(recipe), *keys, "data.bad_rows=drop")[0] == 0


def test_a_folder_in_use_is_said_at_once(recipe: Path, tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "run")
    lock.take()
    try:
        code, imported, said = answer("train", str(recipe))
    finally:
        lock.release()
    assert (code, imported) == (2, "[]"), said
    assert "is in use" in said


@pytest.mark.parametrize(
    ("named", "fact"), [("", "CXX is empty"), (" ", "CXX is empty"), (f"{sys.executable} -O1", f"no {sys.executable}")]
)
def test_a_compiler_that_torch_cannot_start_is_said_at_once(
    red, recipe: Path, monkeypatch: pytest.MonkeyPatch, named: str, fact: str
) -> None:
    """torch takes CXX as the name of a program, without options, and an empty one for that too."""
    monkeypatch.setenv("CXX", named)
    assert_failed(red("check", recipe, "train.compile=true", "--json"), "missing-dependency", fact)
