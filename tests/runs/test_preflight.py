"""What is missing is reported before torch or transformers are imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from red_cli.train.lock import FolderLock

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
    "train into another folder": (("train", "{recipe}", "output.dir={}"), "is not a run folder"),
    "train again": (("train", "{recipe}"), "already holds a finished run"),
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
def test_it_is_said_at_once(finished: Path, recipe: Path, typed: tuple[str, ...], message: str) -> None:
    folder = finished.parent
    code, imported, said = answer(*(part.replace("{recipe}", str(recipe)).format(folder) for part in typed))
    assert (code, imported) == (2, "[]"), said
    assert message in said


def test_a_folder_in_use_is_said_at_once(recipe: Path, tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "run")
    lock.take()
    try:
        code, imported, said = answer("train", str(recipe))
    finally:
        lock.release()
    assert (code, imported) == (2, "[]"), said
    assert "is in use" in said
