"""Which learning rates were chosen for their base: those that users set, and those of recipes for their own bases."""

from __future__ import annotations

from pathlib import Path

import pytest

from red_cli.recipe.load import load_recipe
from red_cli.recipe.shipped_rates import shipped_rates, unsearched_rate

OWN = "model: {name_or_path: google-bert/bert-base-uncased}\ndata: {path: rows}\n"
ANOTHER_BASE = "model.name_or_path=google-bert/bert-base-uncased"

# recipe (a name, or what a file holds besides the keys above), keys on the command line -> facts of the note
RATES = [
    ("glue_sst2", [], None),
    ("glue_sst2", [ANOTHER_BASE], ["0.001", "glue_sst2", "roberta-base"]),
    ("glue_sst2", [ANOTHER_BASE, "train.learning_rate=3e-3"], None),
    ("glue_sst2", [ANOTHER_BASE, "train.rates=relative"], None),
    ("classification", [ANOTHER_BASE], None),
    ("glue_rte", [ANOTHER_BASE], ["0.008", "glue_rte"]),
    ("task: {name: classification}\ntrain: {learning_rate: 4.0e-3}", [], None),
    ("task: {name: classification}\ntrain: {batch_size: 8}", [], None),
    ("extends: glue_sst2\ntrain: {batch_size: 8}", [], ["glue_sst2"]),
]


@pytest.mark.parametrize(("recipe", "keys", "facts"), RATES, ids=range(len(RATES)))
def test_a_rate_is_noted_or_not(tmp_path: Path, recipe: str, keys: list[str], facts: list[str] | None) -> None:
    if ":" in recipe:
        (tmp_path / "mine.yaml").write_text(OWN + recipe)
        recipe = str(tmp_path / "mine.yaml")
    why = unsearched_rate(load_recipe(recipe, None, keys))
    assert (why is None) == (facts is None), why
    for fact in facts or ():
        assert fact in why


def test_variants_have_their_own_rates_and_bases() -> None:
    rates = set(shipped_rates("glue_rte"))
    assert {(8e-3, "FacebookAI/roberta-base"), (5e-3, "FacebookAI/roberta-large")} <= rates
    assert unsearched_rate(load_recipe("glue_rte", "roberta-large")) is None
