"""The recipes that come along agree with the paper's tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from red_cli.recipe.find import copy_recipe, find_recipe, recipe_names, recipe_title
from red_cli.recipe.load import load_recipe, variants_of

CELLS = json.loads((Path(__file__).parents[1] / "data" / "glue_cells.json").read_text())


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell['task']}-{cell['model']}")
def test_glue_recipe_is_the_papers(cell: dict) -> None:
    recipe = load_recipe(f"glue_{cell['task'].removeprefix('glue/')}", cell["model"]).recipe
    assert recipe.task.name == "glue"
    assert recipe.task.subset == cell["task"].removeprefix("glue/")
    assert recipe.model.name_or_path == cell["hub_id"]
    assert recipe.red.positions == cell["positions"]
    ours = {**recipe.train.model_dump(), "max_length": recipe.data.max_length}
    assert {key: ours[key] for key in cell["hyperparameters"]} == cell["hyperparameters"]
    assert recipe.paper is not None
    assert (recipe.paper.table, recipe.paper.score, recipe.paper.std) == (cell["table"], cell["score"], cell["std"])
    assert recipe.paper.model == cell["model"]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_with_every_variant(name: str) -> None:
    path = find_recipe(name)
    assert recipe_title(path)
    for variant in (None, *variants_of(path)):
        load_recipe(name, variant)


def test_the_base_is_the_default_variant() -> None:
    assert load_recipe("glue_rte").recipe == load_recipe("glue_rte", "roberta-base").recipe


def test_a_copy_works_where_it_lies(tmp_path: Path) -> None:
    copy_recipe("quickstart", tmp_path)
    recipe = load_recipe(str(tmp_path / "quickstart.yaml")).recipe
    assert recipe.model.name_or_path == str(tmp_path / "quickstart" / "base")
    assert recipe.data.path == str(tmp_path / "quickstart")
