"""The command line itself: help, what it imports, JSON, schema, recipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from red_cli import __version__
from red_cli.cli import app
from red_cli.recipe.schema import key_paths

COMMANDS = ["train", "compare", "check", "runs", "eval", "predict", "export", "convert", "report", "score", "chat",
            "keys", "schema", "recipes"]  # fmt: skip
# Seconds to import; without them a command answers within a second.
HEAVY = ("torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "pandas", "peft", "matplotlib")
# Runs `red`, then prints its exit code and which of these it imported
OBSERVED = """
import sys
from red_cli.cli import main
code = None
try:
    main()
except SystemExit as exit_:
    code = exit_.code
print([code, [name for name in {heavy} if name in sys.modules]], file=sys.stderr)
"""


def test_help_lists_the_commands(red) -> None:
    assert set(COMMANDS) == set(get_command(app).commands)
    text = red("--help").out
    assert all(f"\n│ {command} " in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["--help"], 0, ""), (["check", "{recipe}", "train.lerning_rate=1"], 2, "train.learning_rate")],
    ids=["help", "a wrong recipe"],
)
def test_what_answers_at_once_imports_nothing_heavy(recipe: Path, arguments: list[str], code: int, words: str) -> None:
    given = [argument.format(recipe=recipe) for argument in arguments]
    program = OBSERVED.format(heavy=HEAVY)
    process = subprocess.run([sys.executable, "-c", program, *given], capture_output=True, text=True, check=True)
    *message, last = process.stderr.splitlines()
    assert last == str([code, []])
    assert words in "\n".join(message)
    assert "Traceback" not in process.stderr


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
    assert sections | {"extends", "variants"} == set(schema["properties"])
    assert [path for path in key_paths() if not keys_at(schema, schema, path.split("."))] == []
    assert keys_at(schema, schema, ["train", "lerning_rate"]) == []


def keys_at(schema: dict[str, Any], node: dict[str, Any], path: list[str]) -> list[dict[str, Any]]:
    """The entries of a key in a JSON schema, one for each form of the sections around it."""
    if "$ref" in node:
        return keys_at(schema, schema["$defs"][node["$ref"].rpartition("/")[2]], path)
    forms = [form for union in ("anyOf", "oneOf", "allOf") for form in node.get(union, [])]
    found = [key for form in forms for key in keys_at(schema, form, path)]
    if not path:
        return [*found, node]
    inner = node.get("properties", {}).get(path[0])
    return found if inner is None else [*found, *keys_at(schema, inner, path[1:])]


@pytest.mark.parametrize("command", [[], ["train"], ["recipes", "copy"]])
def test_short_help(red, command: list[str]) -> None:
    assert red(*command, "-h").out == red(*command, "--help").out


# what is typed, without the shell's splitting at `=` -> some completions of the last word
COMPLETIONS = {
    "red tr": ["train"],
    "red train quicks": ["quickstart"],
    "red check mi": ["mine.yaml"],
    "red train quickstart train.warm": ["train.warmup_ratio=", "train.warmup_steps="],
    "red train quickstart train.see": ["train.seed=", "train.seed=42"],
    "red train quickstart train.pack": ["train.packing=true", "train.packing=false"],
    "red eval ": ["runs/mine-seed42"],
    "red chat runs/mi": ["runs/mine-seed42"],
    "red report runs/mi": ["runs/mine-seed42"],
    "red export runs/mi": ["runs/mine-seed42"],
    "red keys train.see": ["train.seed"],
    "red train quickstart --see": ["--seeds"],
}


@pytest.mark.parametrize(("typed", "words"), COMPLETIONS.items())
def test_completion(red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, words: list[str]) -> None:
    run = tmp_path / "runs" / "mine-seed42"
    (run / "adapter").mkdir(parents=True)
    (run / "recipe.yaml").touch()
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    monkeypatch.setenv("_RED_COMPLETE", "complete_bash")
    assert set(words) <= set(red().out.split())


def test_completion_imports_nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COMP_WORDS": "red train quickstart train.", "COMP_CWORD": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_RED_COMPLETE", "complete_bash")
    program = f"import sys\nsys.argv[0] = 'red'\n{OBSERVED.format(heavy=HEAVY)}"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "train.learning_rate=" in process.stdout
    assert process.stderr.splitlines()[-1] == str([0, []])


def test_the_second_name_is_the_same_program() -> None:
    scripts = (Path(__file__).parents[1] / "pyproject.toml").read_text().partition("[project.scripts]\n")[2]
    names = dict(line.split(" = ")[:2] for line in scripts.partition("\n\n")[0].splitlines())
    assert names["red"].partition("  #")[0] == names["red-cli"].partition("  #")[0]
