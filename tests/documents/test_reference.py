"""The reference is what the code makes today, and each thing of the code is in it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import pytest
import typer

import red_cli
from red_cli.cli import app
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.error_codes import MEANINGS
from red_cli.recipe.bundled_recipes import find_recipe, recipe_names
from red_cli.recipe.explain import key_helps
from red_cli.recipe.load import loadable_variants
from red_cli.recipe.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, TEXT_METRICS, metric_spec
from red_cli.recipe.schema import recipe_keys

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
METRICS = (*CLASSIFICATION_METRICS, *REGRESSION_METRICS, *TEXT_METRICS, "loss", "exact_match", "likelihood_accuracy")
# The keys of version 0.1.0, sections without their names; a key that is not one of them has a mark of its version
KEYS_OF_0_1 = """
task.name labels subset model.name_or_path revision dtype dropout trust_remote_code
red.positions components layers target_modules data.path name train validation test validation_share max_length
data.columns.text text_pair label train.seed learning_rate head_learning_rate num_train_epochs max_steps batch_size
micro_batch_size lr_scheduler_type warmup_ratio warmup_steps weight_decay max_grad_norm bf16 gradient_checkpointing
group_by_length logging_steps eval_steps save_steps save_total_limit early_stopping_patience report_to
resume_from_checkpoint eval.metric batch_size output.dir paper.model table score std note
"""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program that makes the reference."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import make_reference

    return make_reference


# .ci/run checks that of architectures as well, which makes a model of every type
@pytest.mark.parametrize("name", ["commands", "keys", "recipes", "metrics", "python", "message_codes"])
def test_a_page_is_up_to_date(tool: ModuleType, name: str) -> None:
    assert name in tool.PAGES
    assert (FOLDER / f"{name}.md").read_text() == tool.made(name), "write it again: python tools/make_reference.py"


def test_a_stale_page_is_found_and_written(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "PAGES", ("message_codes",))
    page = tmp_path / "message_codes.md"
    page.write_text("# Message codes\n")
    monkeypatch.setattr(sys, "argv", ["make_reference.py", "--check"])
    with pytest.raises(SystemExit, match=r"message_codes\.md\n.*make_reference\.py"):
        tool.main()
    monkeypatch.setattr(sys, "argv", ["make_reference.py"])
    tool.main()
    assert page.read_text() == (FOLDER / "message_codes.md").read_text()
    assert tool.stale_pages(("message_codes",)) == []


def commands() -> Iterable[str]:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        yield from (f"## red {name} {inner}\n" for inner in getattr(command, "commands", {}))
        if not hasattr(command, "commands"):
            yield f"## red {name}\n"


def python_names() -> Iterable[str]:
    yield from (f"### red_cli.{name}\n" for name in red_cli.__all__ if not name.startswith("__"))
    names = re.findall(r'"(\w+)"', (ROOT / "red_cli" / "peft" / "__init__.py").read_text().partition("__all__ =")[2])
    yield from (f"### red_cli.peft.{name}\n" for name in names)


CONTENTS: dict[str, Callable[[], Iterable[str]]] = {
    "commands": commands,
    "keys": lambda: (f"| `{path}` |" for path, key in recipe_keys().items() if not key.is_section),
    "recipes": lambda: (
        f"| `{name}` |" for recipe in recipe_names() for name in (recipe, *loadable_variants(find_recipe(recipe)))
    ),
    "metrics": lambda: (f"| `{name}` |" for name in METRICS),
    "architectures": lambda: (f"`{name}`" for name in ARCHITECTURES),
    "python": python_names,
    "message_codes": lambda: (f"| `{code}` | {meaning[:20]}" for code, meaning in MEANINGS.items()),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_everything_is_in_its_page(name: str) -> None:
    page, wanted = (FOLDER / f"{name}.md").read_text(), list(CONTENTS[name]())
    assert len(wanted) >= 10
    assert [each for each in wanted if each not in page] == []


@pytest.mark.parametrize("name", CONTENTS)
def test_tables_are_whole_and_in_plain_words(name: str) -> None:
    page = (FOLDER / f"{name}.md").read_text()
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    assert not re.search(r"<class|Undefined|<function|object at 0x|NoneType|Ellipsis|/home/|/tmp/", page)


def test_keys_without_a_mark_are_those_of_the_first_version() -> None:
    section, first = "", set()
    for word in KEYS_OF_0_1.split():
        section = word.rpartition(".")[0] or section
        first.add(f"{section}.{word.rpartition('.')[2]}")
    keys = {path: key.since for path, key in recipe_keys().items() if not key.is_section}
    assert {path for path, since in keys.items() if since == "0.1"} == first
    assert set(keys.values()) == {"0.1", "0.2"}


def test_only_what_must_be_given_has_no_default() -> None:
    missing = {path for path, found in key_helps().items() if found.type != "section" and found.default is None}
    assert missing == {"task.name", "task.subset", "model.name_or_path", "paper.model", "paper.table", "paper.score"}


def test_every_metric_has_a_meaning() -> None:
    assert [name for name in METRICS if not metric_spec(name).meaning] == []
