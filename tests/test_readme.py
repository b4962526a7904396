"""The commands of the README and of the paper's page name commands, recipes, variants and keys that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from typer.main import get_command

import red_cli
from red_cli.cli import app
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.errors import UserError
from red_cli.recipe.find import find_recipe, recipe_names
from red_cli.recipe.keys import key_paths
from red_cli.recipe.load import load_recipe, variants_of
from tests.tiny import first_output, make_base, tiny_inputs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README + (ROOT / "docs" / "guide" / "paper.md").read_text(), re.DOTALL)
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


def test_the_python_shown_answers_alike_under_another_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block as it stands, on a tiny base, with a few steps of training in place of the dots."""
    make_base(tmp_path / "FacebookAI" / "roberta-base", "roberta")
    monkeypatch.chdir(tmp_path)
    block = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "attach(" in block)
    before, after = re.split(r"(?m)^\.\.\..*\n", block)
    saving, after = after.split("\n\n")
    loading, folding, saving_again = after.splitlines()
    model = run(before, seed=1)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    for _ in range(3):
        model(**tiny_inputs(), labels=torch.tensor([0, 1, 1, 0])).loss.backward()
        optimizer.step()
    run(saving, seed=1, model=model)
    expected = first_output(model.eval(), tiny_inputs())
    loaded = run(loading, seed=2)
    assert torch.equal(first_output(loaded, tiny_inputs()), expected)
    run(folding + "\n" + saving_again, seed=2, model=loaded)
    tuned = AutoModelForSequenceClassification.from_pretrained("tuned")
    torch.testing.assert_close(first_output(tuned, tiny_inputs()), expected, atol=1e-5, rtol=0)


def run(code: str, seed: int, model: torch.nn.Module | None = None) -> torch.nn.Module:
    """Run lines of the README's Python by a seed; returns their `model`."""
    torch.manual_seed(seed)
    names = {"model": model, "red_cli": red_cli}
    exec(code, names)
    return names["model"]
