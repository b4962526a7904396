"""The bundled recipes agree with the paper's tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from red_cli.edit.attach import attach
from red_cli.edit.attached_adapters import count
from red_cli.recipe.bundled_recipes import find_recipe, recipe_names, recipe_title
from red_cli.recipe.chosen_metrics import text_metrics
from red_cli.recipe.copying import copy_recipe
from red_cli.recipe.load import load_recipe, loadable_variants
from red_cli.recipe.tasks.glue import GLUE

# Every GLUE cell that RED has in the paper, with the hyperparameters of its appendix and, for RED++, of its scripts;
# null where neither gives any.
CELLS = json.loads((Path(__file__).parents[1] / "data" / "glue_cells.json").read_text())
E2E_CELLS = json.loads((Path(__file__).parents[1] / "data" / "e2e_cells.json").read_text())
SIZES = {
    "roberta-base": ("roberta", {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}),
    "roberta-large": ("roberta", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}),
    "t5-base": ("t5", {"d_model": 768, "num_layers": 12, "num_decoder_layers": 12, "num_heads": 12, "d_ff": 3072}),
    "gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "gpt2-large": ("gpt2", {"n_embd": 1280, "n_layer": 36, "n_head": 20}),
}


def variant_of(cell: dict) -> str:
    return cell["model"] + ("-red++" if cell["method"] == "red++" else "")


def subset_of(cell: dict) -> str:
    return cell["task"].removeprefix("glue/")


def figures_of(cell: dict) -> dict:
    """The cell's hyperparameters; if it has none, those of RED for the same task and model."""
    red = next(
        other for other in CELLS
        if (other["task"], other["model"], other["method"]) == (cell["task"], cell["model"], "red")
    )  # fmt: skip
    own, fallback = cell["hyperparameters"], red["hyperparameters"]
    return {key: fallback[key] if value is None else value for key, value in own.items()}


def test_there_are_all_forty_cells() -> None:
    cells = {(subset_of(cell), variant_of(cell)) for cell in CELLS}
    recipes = {
        (name.removeprefix("glue_"), variant)
        for name in recipe_names()
        if name.startswith("glue_")
        for variant in loadable_variants(find_recipe(name))
    }
    assert cells == recipes
    assert len(CELLS) == len(cells) == 40
    assert {subset for subset, _ in cells} == set(GLUE)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{subset_of(cell)}-{variant_of(cell)}")
def test_glue_recipe_is_the_papers(cell: dict) -> None:
    recipe = load_recipe(f"glue_{subset_of(cell)}", variant_of(cell)).recipe
    assert recipe.task.name == "glue"
    assert recipe.task.subset == subset_of(cell)
    assert recipe.model.name_or_path == cell["hub_id"]
    assert recipe.red.positions == cell["positions"]
    ours = {**recipe.train.model_dump(), "max_length": recipe.data.max_length}
    assert {key: ours[key] for key in cell["hyperparameters"]} == figures_of(cell)
    assert (recipe.train.adam_epsilon, recipe.train.max_grad_norm, recipe.train.seed) == (1e-6, None, 42)
    assert recipe.eval.metric is None
    facts, writes = GLUE[subset_of(cell)], cell["model"] == "t5-base"
    assert recipe.task.text_to_text == writes
    ids = [str(index) for index in range(len(facts.labels or ()))]  # what the published code has T5 write
    assert recipe.task.label_texts == (ids if writes and ids else None)
    assert GLUE[subset_of(cell)].metrics[0] == cell["metric"]
    assert recipe.paper is not None
    assert (recipe.paper.table, recipe.paper.score, recipe.paper.std) == (cell["table"], cell["score"], cell["std"])
    assert recipe.paper.model == cell["model"]
    assert "eval.split=paper" in (recipe.paper.note or "")


def test_there_are_all_four_e2e_cells() -> None:
    variants = [variant_of(cell) for cell in E2E_CELLS]
    assert sorted(variants) == sorted(loadable_variants(find_recipe("e2e_nlg")))
    assert len(variants) == 4
    assert load_recipe("e2e_nlg").recipe == load_recipe("e2e_nlg", "gpt2-medium").recipe


@pytest.mark.parametrize("cell", E2E_CELLS, ids=variant_of)
def test_e2e_recipe_is_the_papers(cell: dict) -> None:
    recipe = load_recipe("e2e_nlg", variant_of(cell)).recipe
    assert recipe.task.name == "e2e"
    assert recipe.model.name_or_path == cell["hub_id"]
    assert recipe.red.positions == cell["positions"]
    figures = {key: value for key, value in cell["hyperparameters"].items() if key != "label_smoothing"}
    assert cell["hyperparameters"]["label_smoothing"] == 0.0  # what training does without a key for it
    assert {key: getattr(recipe.train, key) for key in figures} == figures
    assert (recipe.train.warmup_ratio, recipe.train.eval_steps, recipe.train.seed) == (0.0, 500, 42)
    assert (recipe.train.adam_epsilon, recipe.train.max_grad_norm) == (1e-6, None)
    assert recipe.eval.generation is not None
    assert {key: getattr(recipe.eval.generation, key) for key in cell["decoding"]} == cell["decoding"]
    assert recipe.task.metrics[0] == "loss"
    assert text_metrics(recipe) == tuple(cell["score"])
    assert recipe.paper is not None
    assert (recipe.paper.model, recipe.paper.table) == (cell["model"], cell["table"])
    assert (recipe.paper.score, recipe.paper.std) == (cell["score"], cell["std"])


VARIANTS = {(cell["task"].partition("/")[0], variant_of(cell)): cell for cell in (*CELLS, *E2E_CELLS)}


@pytest.mark.parametrize(("task", "variant"), VARIANTS)
def test_edited_parameters_are_the_papers(task: str, variant: str) -> None:
    """Counted on models of the real sizes, without weights."""
    cell = VARIANTS[task, variant]
    model_type, sizes = SIZES[cell["model"]]
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **sizes))
    attach(model, load_recipe({"glue": "glue_rte", "e2e": "e2e_nlg"}[task], variant).recipe.red)
    assert count(model).edited == cell["edited_parameters"]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_with_every_variant(name: str) -> None:
    path = find_recipe(name)
    assert recipe_title(path)
    for variant in (None, *loadable_variants(path)):
        load_recipe(name, variant)


def test_the_base_is_the_default_variant() -> None:
    assert load_recipe("glue_rte").recipe == load_recipe("glue_rte", "roberta-base").recipe


def test_a_copy_works_where_it_lies(tmp_path: Path) -> None:
    copy_recipe("quickstart", tmp_path)
    recipe = load_recipe(str(tmp_path / "quickstart.yaml")).recipe
    assert recipe.model.name_or_path == str(tmp_path / "quickstart" / "base")
    assert recipe.data.path == str(tmp_path / "quickstart")


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("commonsense_")])
def test_commonsense_recipes_follow_the_neighbours(name: str) -> None:
    """RoAd's and IA3's hyperparameters (arXiv 2409.00119v2) but the learning rate, the same for every base."""
    for variant in loadable_variants(find_recipe(name)):
        recipe = load_recipe(name, variant).recipe
        train = recipe.train
        assert (train.num_train_epochs, train.batch_size, train.warmup_ratio) == (6, 32, 0.1)
        assert (train.lr_scheduler_type, train.weight_decay, recipe.data.max_length) == ("linear", 0, 512)
        assert recipe.eval.generation is not None
        assert (recipe.eval.generation.num_beams, recipe.eval.generation.max_new_tokens) == (1, 32)


def test_ultrafeedback_has_the_paper_s_hyperparameters() -> None:
    """Table 10: batch 128, cosine, warm-up 0.1, length 768, rate 1e-3, 10 epochs; the script's 2e-5, 3 and 512."""
    recipe = load_recipe("ultrafeedback").recipe
    train = recipe.train
    assert (train.learning_rate, train.num_train_epochs, train.batch_size) == (1e-3, 10, 128)
    assert (train.lr_scheduler_type, train.warmup_ratio, train.weight_decay) == ("cosine", 0.1, 0.0)
    assert recipe.data.max_length == 768
    published = load_recipe("ultrafeedback", "published").recipe
    assert (published.train.learning_rate, published.train.num_train_epochs) == (2e-5, 3)
    assert (published.data.max_length, published.data.max_prompt_length) == (512, 256)
    assert recipe.model == published.model == load_recipe("ultrafeedback", "llama-2-7b").recipe.model


@pytest.mark.parametrize("name", ["ultrafeedback", "alpaca", "instruction"])
def test_instruction_recipes_have_the_same_bases(name: str) -> None:
    variants = [variant for variant in loadable_variants(find_recipe(name)) if variant != "published"]
    assert variants == loadable_variants(find_recipe("alpaca"))
    for variant in variants:
        base = load_recipe("alpaca", variant).recipe.model.name_or_path
        assert load_recipe(name, variant).recipe.model.name_or_path == base
