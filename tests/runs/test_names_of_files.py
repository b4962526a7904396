"""Names in recipes, data and options become file names inside the output folder only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from red_cli.recipe.bundled_recipes import recipe_folder
from red_cli.runs.folder import RunFolder

OUTSIDE = ["../../x", "/etc/x", "a/b", "..", ".", "", "a\\b", "a\nb", "\x1b[2J", "a\u202eb"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("command", ["check", "train", "compare"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_variants(red: Callable, recipe: Path, here: Path, tmp_path: Path, name: str, command: str) -> None:
    """They are refused where the recipe is read, whichever variant is asked for."""
    text = recipe.read_text().replace(f"output: {{dir: {tmp_path / 'run'}}}\n", "")
    recipe.write_text(f"{text}variants: {{{json.dumps(name)}: {{train: {{max_steps: 1}}}}, good++-1.2b: null}}\n")
    options = ["--methods", "head"] if command == "compare" else []
    for variant in (name, "good++-1.2b"):
        outcome = red(command, recipe, "--variant", variant, *options, "--json")
        assert outcome.code == 2
        assert [fault["code"] for fault in outcome.json["error"]["faults"]] == ["invalid-value"]
    assert list(here.iterdir()) == []


def test_a_recipes_own_name(red: Callable, recipe: Path, here: Path, tmp_path: Path) -> None:
    text = recipe.read_text().replace(f"output: {{dir: {tmp_path / 'run'}}}\n", "")
    odd = tmp_path / "one\ntwo\x1b[2J\\three.yaml"
    odd.write_text(text)
    result = red("check", odd, "--json").json
    assert result["run_folder"] == "runs/one_two_[2J_three-seed42"


@pytest.mark.parametrize("split", [*OUTSIDE, "../test", "predictions/../../test"])
def test_splits(red: Callable, recipe: Path, tmp_path: Path, split: str) -> None:
    folder = RunFolder(tmp_path / "run")
    for file in (folder.predictions(split), folder.partial(split), *folder.texts(split)):
        assert file.resolve().parent == (tmp_path / "run" / "predictions").resolve()


def test_an_unknown_split(red: Callable, recipe: Path, tmp_path: Path) -> None:
    assert red("train", recipe, "train.max_steps=1").code == 0
    before = sorted(tmp_path.rglob("*"))
    for split in ("../x", "/etc/x", "\x1b[2J"):
        outcome = red("eval", tmp_path / "run", "--split", split, "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, "split-not-found")
        assert "\x1b" not in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["predictions", "evaluations", "suites", "report"])
def test_nothing_is_written_through_a_link(red: Callable, recipe: Path, tmp_path: Path, name: str) -> None:
    """In a run folder that someone else made; a file of that name elsewhere would be overwritten."""
    run, thesis = tmp_path / "run", tmp_path / "thesis"
    assert red("train", recipe, "train.max_steps=1").code == 0
    shutil.rmtree(run / name, ignore_errors=True)
    thesis.mkdir()
    for file in ("test.jsonl", "validation.jsonl", "report.html"):
        (thesis / file).write_text("mine")
    (run / name).symlink_to(thesis)
    commands = [("report", run)] if name == "report" else [("eval", run), ("eval", run, "data.max_length=20")]
    for command in commands:
        outcome = red(*command, "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, "path-outside-folder")
        assert str(run / name) in outcome.err
    assert {file.read_text() for file in thesis.iterdir()} == {"mine"}
    elsewhere = ("--output", tmp_path / "new")
    assert red(*commands[0], *elsewhere).code == 0


@pytest.mark.parametrize("command", ["show", "copy"])
def test_only_recipes_are_shown_and_copied(red: Callable, here: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    for name in ("../passwd", "../picture", "../nothing", "", "..", "a\nb"):
        outcome = red("recipes", command, name)
        assert (outcome.code, outcome.out) == (2, "")
        assert "root:x" not in outcome.err
    assert list(here.iterdir()) == []


def test_a_copy_includes_bundled_files_only(red: Callable, recipe: Path, here: Path, tmp_path: Path) -> None:
    recipe.with_suffix("").mkdir()
    (recipe.with_suffix("") / "secret").symlink_to("/etc/passwd")
    assert red("recipes", "copy", recipe).code == 0
    assert [path.name for path in here.iterdir()] == [recipe.name]
    assert red("recipes", "copy", recipe_folder() / "quickstart.yaml", "new").code == 0
    assert {path.name for path in (here / "new").iterdir()} == {"quickstart", "quickstart.yaml"}


def test_a_copy_writes_through_no_link(red: Callable, here: Path, tmp_path: Path) -> None:
    (here / "glue_rte.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    outcome = red("recipes", "copy", "glue_rte")
    assert outcome.code == 2
    assert not (tmp_path / "elsewhere.yaml").exists()
