"""The command line itself: help, speed, JSON, schema, recipes."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from red_cli import __version__

COMMANDS = ["train", "check", "eval", "export", "report", "recipes", "schema", "score", "chat"]


def timed(*arguments: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Processor seconds of a command, which other work on the machine does not lengthen, and what it left."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([sys.executable, "-m", "red_cli", *arguments], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, process


def test_help_answers_at_once_and_lists_the_commands() -> None:
    runs = [timed("--help") for _ in range(5)]
    assert statistics.median(seconds for seconds, _ in runs) < 0.3
    text = runs[0][1].stdout
    assert all(command in text for command in COMMANDS)


def test_a_wrong_recipe_is_told_within_a_second(recipe: Path) -> None:
    runs = [timed("check", str(recipe), "train.lerning_rate=1") for _ in range(3)]
    assert statistics.median(seconds for seconds, _ in runs) < 1.0
    assert {process.returncode for _, process in runs} == {2}
    assert "train.learning_rate" in runs[0][1].stderr
    assert "Traceback" not in runs[0][1].stderr


def test_help_imports_nothing_heavy() -> None:
    program = "import sys, red_cli.cli; print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(red, command: str) -> None:
    assert red(command, "--help").code == 0


def test_version(red) -> None:
    assert red("--version").out.strip() == __version__


def test_usage_errors_have_exit_code_2(red) -> None:
    for arguments in (["trian"], ["train"], ["export", "x"], ["train", "x", "--nonsense"]):
        assert red(*arguments).code == 2


def test_recipes_are_listed_shown_and_copied(red, tmp_path: Path) -> None:
    listed = red("recipes", "list", "--json").json["recipes"]
    names = [row["name"] for row in listed]
    assert {"glue_sst2", "glue_mnli", "classification", "quickstart"} <= set(names)
    assert all(name in red("recipes").out for name in names)
    assert "# " in red("recipes", "show", "glue_rte").out
    large = red("recipes", "show", "glue_rte", "--variant", "roberta-large", "--json").json
    assert large["train"]["learning_rate"] == 5e-3
    assert red("recipes", "copy", "glue_rte", tmp_path).code == 0
    assert red("recipes", "copy", "glue_rte", tmp_path).code == 2
    assert (tmp_path / "glue_rte.yaml").is_file()


def test_what_deepspeeds_launcher_adds_is_taken(red) -> None:
    assert red("--local_rank=1", "recipes", "--json").out == red("recipes", "--json").out
    assert "local_rank" not in red("--help").out


def test_schema_describes_every_key(red) -> None:
    schema = red("schema").json
    assert schema["additionalProperties"] is False
    sections = {"task", "model", "method", "red", "lora", "ia3", "data", "train", "eval", "launch", "output", "paper"}
    assert sections | {"variants"} == set(schema["properties"])
    assert "learning_rate" in schema["$defs"]["Train"]["properties"]
    assert json.dumps(schema)
