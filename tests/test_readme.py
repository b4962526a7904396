"""The commands of the README and of the paper's page name commands, recipes, variants and keys that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from red_cli.cli import app
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.errors import UserError
from red_cli.recipe.find import find_recipe, recipe_names
from red_cli.recipe.keys import key_paths
from red_cli.recipe.load import load_recipe, variants_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README + (ROOT / "docs" / "paper.md").read_text(), re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.startswith("red ")]


def test_every_command_is_shown() -> None:
    shown = {shlex.split(command)[1] for command in COMMANDS}
    assert shown == set(get_command(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(red, command: str) -> None:
    _, name, *arguments = shlex.split(command.split(" > ")[0])
    assert red(name, "--help").code == 0
    for argument in arguments:
        if "=" in argument:
            assert argument.partition("=")[0] in key_paths()
    if name in ("train", "check") and arguments[0] in recipe_names():
        variant = arguments[arguments.index("--variant") + 1] if "--variant" in arguments else None
        load_recipe(arguments[0], variant, [argument for argument in arguments if "=" in argument])


def test_the_architectures_are_those_of_the_table() -> None:
    """Names are model types except for case, hyphens and spaces; CLIP stands for its two halves."""
    pages = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("**/*.md")))
    table = pages.partition("| family | model types |")[2].partition("\n\n")[0]
    cells = [line.split("|")[2].partition(" (at ")[0] for line in table.splitlines()[2:]]
    shown = {plain(name) for cell in cells for name in cell.split(",")}
    assert shown == {plain(re.sub("_(text|vision)_model", "", name)) for name in ARCHITECTURES}


def plain(name: str) -> str:
    return re.sub(r"\W|_", "", name).lower()


def test_every_recipe_and_variant_is_in_the_table() -> None:
    for name in recipe_names():
        assert f"`{name}`" in README
        for variant in variants_of(find_recipe(name)):
            assert f"`{variant}`" in README


def test_the_recipe_shown_is_a_recipe(tmp_path: Path) -> None:
    text = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]
    path = tmp_path / "shown.yaml"
    path.write_text(text)
    try:
        load_recipe(str(path), "roberta-large")
    except UserError as error:
        pytest.fail(str(error))
