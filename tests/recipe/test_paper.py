"""The paper's figures are shown only with results of the paper's own base, task and method."""

from __future__ import annotations

import pytest

from red_cli.recipe.bundled_recipes import find_recipe, recipe_names
from red_cli.recipe.load import load_recipe, loadable_variants

SHIPPED = [(name, variant) for name in recipe_names() for variant in (None, *loadable_variants(find_recipe(name)))]


def loaded(name: str, *overrides: str, variant: str | None = None):
    keys = ["data.path=x"] if name == "e2e_nlg" else []
    return load_recipe(name, variant, [*keys, *overrides]).recipe


def test_the_figures_of_every_recipe_are_of_what_it_trains() -> None:
    seen = 0
    for name, variant in SHIPPED:
        if name.startswith(("glue", "e2e")):
            recipe = loaded(name, variant=variant)
            assert recipe.paper is not None
            assert recipe.paper.task == recipe.task.title
            assert recipe.paper_mismatch is None, (name, variant)
            assert recipe.paper_figure is not None
            seen += 1
    assert seen >= 45


@pytest.mark.parametrize(
    ("name", "overrides", "reason"),
    [
        ("glue_sst2", ["model.name_or_path=FacebookAI/roberta-large"], "the base is roberta-large, the paper's is"),
        ("glue_sst2", ["model.name_or_path=/models/my-base"], "the base is my-base"),
        ("glue_sst2", ["task.subset=rte"], "the task is glue/rte, the paper's is glue/sst2"),
        ("glue_sst2", ["red.positions=red++"], "not those of the paper's RED"),
        ("glue_sst2", ["red.components=[bias]"], "not those of the paper's RED"),
        ("glue_sst2", ["red.layers='6:'"], "not those of the paper's RED"),
        ("glue_sst2", ["red.target_modules='.*dense'"], "not those of the paper's RED"),
        ("glue_sst2", ["method=lora"], "not those of the paper's RED"),
        ("e2e_nlg", ["red.positions=[attn]"], "not those of the paper's RED"),
    ],
)
def test_a_figure_of_something_else_is_left_out(name: str, overrides: list[str], reason: str) -> None:
    recipe = loaded(name, *overrides)
    assert reason in str(recipe.paper_mismatch)
    assert recipe.paper_figure is None


def test_a_local_copy_of_the_papers_base_counts() -> None:
    assert loaded("glue_sst2", "model.name_or_path=/models/roberta-base").paper_figure is not None


def test_a_variant_of_red_plus_plus_has_its_own_figure() -> None:
    assert loaded("glue_sst2", variant="roberta-base-red++").paper_figure is not None
    assert loaded("glue_sst2", "red.positions=[ffn]", variant="roberta-base-red++").paper_figure is None
