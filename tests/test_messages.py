"""Deliberate mistakes: each is answered by one message that has what to type, before anything slow is imported."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from red_cli import console
from red_cli.errors import UserError
from red_cli.formatting import wrapped
from tests.failures import assert_failed
from tests.test_cli import HEAVY, OBSERVED

# name -> (arguments, code, what the message or hint has)
MISTAKES: dict[str, tuple[list[str], str, str]] = {
    # Commands
    "a misspelt command": (["trian", "x"], "unknown-name", "red train"),
    "merge": (["merge", "x"], "unknown-name", "red export RUN --output FOLDER"),
    "finetune": (["finetune"], "unknown-name", "red train RECIPE"),
    "evaluate": (["evaluate", "runs/x"], "unknown-name", "red eval RUN"),
    "inference": (["inference"], "unknown-name", " RUN"),
    "help of a command": (["help", "train"], "unknown-name", "red train --help"),
    "a misspelt command of recipes": (["recipes", "shwo"], "unknown-name", "red recipes show"),
    "no argument": (["eval"], "invalid-option", "red eval runs/quickstart-seed42"),
    "no option that must be": (["score"], "invalid-option", "--predictions answers.txt"),
    # Options
    "a key as option": (["train", "quickstart", "--learning_rate", "1e-3"], "invalid-option",
                        "train.learning_rate=1e-3"),
    "a path of a key as option": (["train", "quickstart", "--train.learning_rate=1e-3"], "invalid-option",
                                  "Write train.learning_rate=1e-3 "),
    "two keys as options": (["train", "quickstart", "--lr=1e-3", "--num_train_epochs", "2"], "invalid-option",
                            "train.learning_rate=1e-3 train.num_train_epochs=2"),
    "one dash": (["train", "quickstart", "-lr", "1e-3"], "invalid-option", "train.learning_rate=1e-3"),
    "a flag": (["train", "quickstart", "--no-bf16"], "invalid-option", "train.bf16=false"),
    "the recipe as option": (["train", "--config", "mine.yaml"], "invalid-option", "red train mine.yaml"),
    "output_dir of a run": (["train", "quickstart", "--output_dir", "out"], "invalid-option", "output.dir=out"),
    "output_dir of an export": (["export", "x", "--output_dir", "out"], "invalid-option", "--output out"),
    "underscores": (["export", "x", "-o", "y", "--push_to_hub", "me/it"], "invalid-option", "--push-to-hub me/it"),
    "an option before the command": (["--seeds", "1", "train", "quickstart"], "invalid-option", "red train RECIPE"),
    "an option of nothing": (["report", "x", "--zzz"], "invalid-option", "--output"),
    "a wrong choice": (["export", "x", "-o", "y", "--format", "mergd"], "invalid-option", "Did you mean merged?"),
    "out of range": (["eval", "x", "--limit", "0"], "invalid-option", "--limit"),
    "no number": (["check", "quickstart", "--device-memory", "big"], "invalid-option", "--device-memory"),
    "no value": (["eval", "x", "--json", "--split"], "invalid-option", "--split VALUE"),
    # Keys
    "Transformers": (["train", "quickstart", "per_device_train_batch_size=8"], "unknown-key", "train.batch_size"),
    "Transformers in a section": (["train", "quickstart", "train.epochs=3"], "unknown-key", "train.num_train_epochs"),
    "PEFT": (["train", "quickstart", "lora_r=8"], "unknown-key", "lora.rank"),
    "PEFT in a section": (["train", "quickstart", "lora.r=8"], "unknown-key", "lora.rank"),
    "axolotl": (["train", "quickstart", "val_set_size=0.1"], "unknown-key", "data.validation_share"),
    "LLaMA-Factory": (["train", "quickstart", "cutoff_len=64"], "unknown-key", "data.max_length"),
    "a fixed value": (["train", "quickstart", "load_in_4bit=true"], "unknown-key", "model.quantization, set to nf4"),
    "no section": (["train", "quickstart", "seed=1"], "unknown-key", "train.seed?"),
    "another section": (["train", "quickstart", "data.batch_size=1"], "unknown-key", "train.batch_size or eval.batch"),
    "spaces": (["train", "quickstart", "train.seed", "=", "43"], "invalid-option", "train.seed=VALUE"),
    "a colon": (["train", "quickstart", "lr: 1e-3"], "invalid-option", "train.learning_rate=VALUE"),
    "None": (["train", "quickstart", "train.max_grad_norm=None"], "invalid-value", "(write null)"),
    "None of an unknown key": (["train", "quickstart", "train.fsdp=None"], "unknown-key", "launch.strategy"),
    "none in a list": (["train", "quickstart", "red.layers=[none]"], "invalid-value", "red.layers"),
    "nil of a section": (["train", "quickstart", "train=nil"], "invalid-value", "keys and values"),
    "yes": (["train", "quickstart", "train.packing=yes"], "invalid-value", "(write true)"),
    "a section's value": (["train", "quickstart", "data=rows.csv"], "invalid-value", "data.path"),
    "a key of nothing": (["keys", "learning_rte"], "unknown-key", "learning_rate"),
    # Paths
    "a recipe not trained": (["eval", "quickstart"], "folder-not-found", "red train quickstart"),
    "a base as recipe": (["train", "bert-base-uncased"], "recipe-not-found", "model.name_or_path=NAME"),
    "another ending": (["check", "mine.yml"], "recipe-not-found", "mine.yaml"),
    "a misspelt run": (["eval", "runs/mine-sed42"], "folder-not-found", "runs/mine-seed42"),
    "a run without its folder": (["export", "mine-seed42", "-o", "x"], "folder-not-found", "runs/mine-seed42"),
    "the folder of runs": (["eval", "runs"], "not-a-run", "runs/mine-seed42"),
    "no such run to report": (["report", "runs/mine-seed24"], "folder-not-found", "runs/mine-seed42"),
    "no file to convert": (["convert", "nothing.pth", "-o", "x", "--base", "y"], "file-not-found", "delta_vector.pth"),
    "no file to score": (["score", "-p", "nothing.txt", "-r", "x"], "file-not-found", "nothing.txt"),
    "no recipe to compare": (["compare", "quickstrat", "--methods", "red"], "recipe-not-found", "quickstart?"),
    "data to compare": (["compare", "rows.csv", "--methods", "red"], "recipe-not-found", "red train rows.csv"),
    "data with a recipe": (["compare", "data", "--methods", "red"], "recipe-not-found", "red compare data/data.yaml"),
    "data as a recipe to show": (["recipes", "show", "rows.csv"], "recipe-not-found", "red recipes show rows.yaml"),
    "data to score": (["eval", "rows.csv"], "not-a-run", "red train rows.csv"),
    "data to export": (["export", "data/train.csv", "-o", "x"], "not-a-run", "red train data/train.csv"),
    "data to report on": (["report", "rows.csv"], "not-a-run", "red train rows.csv"),
    "data to list": (["runs", "rows.csv"], "not-a-run", "red train rows.csv"),
    "data without a run": (["predict", "rows.csv"], "not-a-run", "red predict RUN rows.csv"),
    "another file as a run": (["eval", "mine.txt"], "not-a-run", "mine.txt is a file"),
    "a folder as a recipe": (["train", "runs"], "recipe-not-found", "runs is a folder"),
    "no such method": (["compare", "quickstart", "--methods", "qlora"], "unknown-name", "lora"),
    "a variable that is not set": (["check", "quickstart", "data.path=$RED_NOTHING/x"], "invalid-value", "RED_NOTHING"),
    "a variable in an option": (["export", "mine", "-o", "$RED_NOTHING/x"], "invalid-option", "RED_NOTHING is not set"),
    "a secret": (["check", "quickstart", "data.path=$HF_TOKEN"], "invalid-value", "HF_TOKEN may hold a secret"),
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and the run of it, as far as names matter."""
    run = tmp_path / "runs" / "mine-seed42"
    (run / "adapter").mkdir(parents=True)
    for path in (tmp_path / "mine.yaml", run / "recipe.yaml"):
        path.write_text("task: {name: classification}\nmodel: {name_or_path: some/base}\ndata: {path: some/data}\n")
    (tmp_path / "data").mkdir()
    for name in ("rows.csv", "data/train.csv", "data/data.yaml", "mine.txt"):
        (tmp_path / name).write_text("text,label\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "code", "fact"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_answered_with_what_to_type(red, here: Path, arguments: list[str], code: str, fact: str) -> None:
    outcome = red(*arguments, *([] if "--json" in arguments else ["--json"]))
    assert outcome.code == 2
    error = outcome.json["error"]
    assert error.get("faults", [error])[0]["code"] == code
    assert fact in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) <= 5


def test_mistakes_are_found_before_slow_imports(here: Path) -> None:
    """One of each command, all in one process: what one imports stays for the others."""
    rows = {arguments[0]: arguments for arguments, _, _ in MISTAKES.values()}
    program = (
        "import json, sys\nfor row in json.load(sys.stdin):\n    sys.argv = ['red', *row]\n"
        f"    exec({OBSERVED.format(heavy=HEAVY)!r})"
    )
    package = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.run(
        [sys.executable, "-c", program],
        env=package,
        input=json.dumps(list(rows.values())),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = [line for line in process.stderr.splitlines() if line.startswith("[")]
    assert dict(zip(rows, seen, strict=True)) == dict.fromkeys(rows, "[2, []]")


def test_a_recipe_file_names_the_lines_of_foreign_keys(red, here: Path) -> None:
    (here / "mine.yaml").write_text(
        "task: {name: classification}\nmodel:\n  base_model: some/base\ndata: {path: some/data}\n"
        "train:\n  gradient_accumulation_steps: 2\n  lr: 1e-3\n"
    )
    faults = red("check", "mine.yaml", "--json").json["error"]["faults"]
    found = {fault["where"].rpartition(" ")[2]: fault["message"] for fault in faults if fault["code"] == "unknown-key"}
    assert found.keys() == {"3", "6", "7"}
    assert "model.name_or_path" in found["3"]
    assert "train.micro_batch_size" in found["6"]
    assert "train.learning_rate" in found["7"]


def test_variables_of_a_launcher_are_json_too(red, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "x")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert_failed(red("recipes", "list", "--json"), "invalid-launch", "LOCAL_RANK")


def test_a_recipe_means_its_run(red, finished: Path, recipe: Path) -> None:
    for target in (recipe, finished / "recipe.yaml"):
        outcome = red("eval", target, "--json")
        assert outcome.json["folder"] == str(finished)
        assert str(finished) in outcome.err


@given(st.lists(st.text("ab/漢", min_size=1, max_size=30), min_size=1), st.integers(10, 60))
def test_words_stay_whole(words: list[str], width: int) -> None:
    lines = wrapped(" ".join(words), width).split("\n")
    assert [word for line in lines for word in line.split()] == words
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)


@pytest.mark.parametrize("width", [80, 60, 40])
def test_errors_fit_a_terminal_and_stay_whole_elsewhere(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    path = "/a/long/path/of/a/file/that/is/wider/than/eighty/columns/because/it/has/to/be/copied/whole.csv"
    error = UserError("file-not-found", f"the file of the validation split does not exist: {path}", hint="Give a file.")
    for terminal in (True, False):
        stream = io.StringIO()
        shown = Console(file=stream, force_terminal=terminal, width=width, no_color=True, color_system=None)
        monkeypatch.setattr(console, "console_of", lambda stderr, shown=shown: shown)
        console.print_error(error)
        lines = stream.getvalue().splitlines()
        assert any(path in line for line in lines)
        assert " ".join(" ".join(lines).split()) == f"error: {error.message} Give a file."
        assert len(lines) == 2 or terminal
        assert all(len(line) <= width or line.strip() == path for line in lines) or not terminal
