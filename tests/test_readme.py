"""README and the guides show every command, recipe and architecture, and what they show exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.main import get_command

import red_cli
from red_cli.cli import app
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.recipe.bundled_recipes import find_recipe, recipe_names
from red_cli.recipe.load import load_recipe, loadable_variants
from red_cli.recipe.schema import key_paths
from tests.documents.pages import GUIDE, ROOT, Block, blocks_of
from tests.tiny import first_output, make_base, tiny_inputs

README = (ROOT / "README.md").read_text()
BLOCKS = [block for page in GUIDE for block in blocks_of(page.read_text())]
PAGES = "".join(page.read_text() for page in [*GUIDE, *sorted((ROOT / "docs" / "reference").glob("*.md"))])
MOST_LINES = 140


def commands_of(block: Block) -> list[str]:
    """The calls of `red` in a block of bash, without comments, pipes and redirections."""
    lines = block.text.replace("\\\n", " ").splitlines() if block.language == "bash" else []
    plain = [re.split(r"\s#|[|<>;]", line)[0].strip() for line in lines]
    return [line for line in plain if line.startswith("red ")]


COMMANDS = sorted({command for block in BLOCKS for command in commands_of(block)})
# The pages' own tests run the others
NOT_RUN = sorted({command for block in BLOCKS if block.not_run for command in commands_of(block)})


def test_every_command_is_shown() -> None:
    shown = {shlex.split(command)[1] for command in COMMANDS}
    assert shown >= set(get_command(app).commands)


@pytest.mark.parametrize("command", NOT_RUN)
def test_a_command_that_no_test_runs(red, command: str) -> None:
    _, name, *arguments = shlex.split(command)
    shown = red(name, "--help")
    assert shown.code == 0
    for argument in arguments:
        if argument.startswith("--"):
            assert argument.partition("=")[0] in shown.out
        elif "=" in argument:
            assert argument.partition("=")[0].rpartition(":")[2] in key_paths()
    if name in ("train", "check") and arguments[0] in recipe_names():
        variant = arguments[arguments.index("--variant") + 1] if "--variant" in arguments else None
        load_recipe(arguments[0], variant, [argument for argument in arguments if "=" in argument])


def test_every_recipe_and_variant_is_in_a_table() -> None:
    for name in recipe_names():
        assert f"`{name}`" in PAGES
        for variant in loadable_variants(find_recipe(name)):
            assert f"`{variant}`" in PAGES


def test_every_architecture_is_in_a_table() -> None:
    assert all(f"`{name}`" in PAGES for name in ARCHITECTURES)


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def test_the_python_shown_answers_alike_under_another_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines around `attach` as they stand, on a tiny base, with a few steps of training in place of the dots."""
    make_base(tmp_path / "FacebookAI" / "roberta-base", "roberta")
    monkeypatch.chdir(tmp_path)
    block = next(block.text for block in blocks_of(README) if "attach(" in block.text)
    imports = block.partition("\n\n")[0]
    before, saving = re.split(r"(?m)^\.\.\..*\n", block.rpartition("\n\n")[2])
    names = {"red_cli": red_cli}
    torch.manual_seed(1)
    exec(imports + "\n" + before, names)
    model = names["model"]
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    for _ in range(3):
        model(**tiny_inputs(), labels=torch.tensor([0, 1, 1, 0])).loss.backward()
        optimizer.step()
    exec(saving, names)
    torch.manual_seed(2)
    loading = re.search(r"red_cli\.load\(.*?\)", saving)
    assert loading
    loaded = eval(loading[0], names)
    assert torch.equal(first_output(loaded, tiny_inputs()), first_output(model.eval(), tiny_inputs()))
