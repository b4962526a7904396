"""Properties of all recipes: forms of overrides agree, round trips are exact, faults are reported."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from red_cli.errors import UserError
from red_cli.recipe.bundled_recipes import find_recipe, recipe_names
from red_cli.recipe.load import load_recipe, loadable_variants
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.schema import key_paths, resolved
from red_cli.recipe.yaml_file import dump, dump_flow, parse_value, read_document

DOCUMENTS = {name: read_document(find_recipe(name)).data for name in recipe_names()}
for _data in DOCUMENTS.values():  # written elsewhere, they find what they extend by its name
    if "extends" in _data:
        _data["extends"] = Path(_data["extends"]).stem
START = ["task={name: classification}", "model={name_or_path: org/model}", "data={path: org/data}"]

SIGNS = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
TEXTS = st.text(SIGNS, max_size=20)
WORDS = TEXTS.filter(lambda text: bool(text.strip()))
# keys of a classification recipe -> values they take
VALID: dict[str, st.SearchStrategy[Any]] = {
    "task.labels": st.lists(WORDS, min_size=2, max_size=4, unique=True),
    "model.revision": WORDS,
    "model.dropout": st.none() | st.floats(0, 0.9),
    "red.components": st.sampled_from([["scale"], ["bias"], ["bias", "scale"]]),
    "red.layers": st.sampled_from(["all", "1:", ":3"]) | st.lists(st.integers(0, 99), min_size=1, max_size=3),
    "data.columns.text": WORDS.map(lambda text: f"{text}x"),
    "data.splits": st.dictionaries(st.sampled_from(["train", "validation", "test"]), WORDS),
    "data.max_train_rows": st.integers(1, 10**9),
    "train.seed": st.integers(0, 2**32 - 1),
    "train.learning_rate": st.just("auto") | st.floats(1e-300, 1e300),
    "train.num_train_epochs": st.floats(1e-300, 1e6),
    "train.max_grad_norm": st.none() | st.floats(1e-9, 1e9),
    "train.bf16": st.booleans() | st.just("auto"),
    "train.report_to": st.lists(WORDS, max_size=2),
    "train.resume_from_checkpoint": st.booleans() | WORDS,
    "output.dir": WORDS,
}
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["auto", "red", "lora", "label", "", "own", "{a}", "{{x}}", "8:2", "a(b", "~", "1:", "\0"])
    | st.just("x" * 5000)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def as_mappings(changes: dict[str, Any]) -> list[str]:
    """Dotted keys and values as overrides of sections, one mapping for each section."""
    nested: dict[str, Any] = {}
    for key, value in changes.items():
        section = nested
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return [f"{section}={dump_flow(values)}" for section, values in nested.items()]


@given(st.data())
def test_both_forms_of_an_override_are_the_same(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(VALID)), min_size=1, max_size=4, unique=True))
    changes = {key: data.draw(VALID[key]) for key in keys}
    dotted = [f"{key}={dump_flow(value)}" for key, value in changes.items()]
    mappings = as_mappings(changes)
    assert sorted(named.key for named in named_keys(dotted)) == sorted(named.key for named in named_keys(mappings))
    expected = load_recipe("classification", None, [*START, *dotted]).recipe
    assert load_recipe("classification", None, [*START, *mappings]).recipe == expected
    mixed = [*as_mappings(dict(list(changes.items())[:1])), *dotted[1:]]
    assert load_recipe("classification", None, [*START, *mixed]).recipe == expected


@given(st.data())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(VALID)), min_size=1, max_size=4, unique=True))
    overrides = as_mappings({key: data.draw(VALID[key]) for key in keys})
    recipe = load_recipe("classification", None, [*START, *overrides]).recipe
    copied = tmp_path_factory.mktemp("copy") / "recipe.yaml"
    copied.write_text(dump(resolved(recipe)), encoding="utf-8")
    assert load_recipe(str(copied)).recipe == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_bundled_recipes_are_read_back(tmp_path: Path, name: str) -> None:
    for variant in (None, *loadable_variants(find_recipe(name))):
        recipe = load_recipe(name, variant).recipe
        copied = tmp_path / "recipe.yaml"
        copied.write_text(dump(resolved(recipe)), encoding="utf-8")
        assert load_recipe(str(copied)).recipe == recipe


@given(VALUES)
def test_a_value_is_written_and_read_back(value: Any) -> None:
    try:
        read = parse_value(dump_flow(value))
    except ValueError:
        assert "\\x00" in repr(value)
        return
    assert repr(read) == repr(value)


@st.composite
def mutations(draw: st.DrawFn) -> dict[str, Any]:
    """A bundled recipe with keys set to anything, deleted, or unknown."""
    data = copy.deepcopy(DOCUMENTS[draw(st.sampled_from(sorted(DOCUMENTS)))])
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([*key_paths(), "variants", "variants.new"])).split(".")
        section = data
        for parent in parents:
            section[parent] = section[parent] if isinstance(section.get(parent), dict) else {}
            section = section[parent]
        match draw(st.sampled_from(["set", "set", "delete", "unknown"])):
            case "set":
                section[last] = draw(VALUES)
            case "delete":
                section.pop(last, None)
            case _:
                section[draw(st.text(max_size=6))] = draw(VALUES)
    return data


@given(mutations())
def test_a_mutated_recipe_loads_or_is_refused(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("mutated") / "recipe.yaml"
    path.write_text(dump(data), encoding="utf-8", errors="surrogatepass")
    started = time.process_time()
    try:
        recipe = load_recipe(str(path)).recipe
    except UserError as error:
        message = str(error)
    else:
        message = ""
        path.write_text(dump(resolved(recipe)), encoding="utf-8")
        assert load_recipe(str(path)).recipe == recipe
    assert all(len(line) < 1000 for line in message.splitlines())
    assert time.process_time() - started < 2


@given(st.text(max_size=30))
def test_any_text_is_an_override_or_refused(text: str) -> None:
    try:
        load_recipe("quickstart", None, [text])
    except UserError:
        return
    assert named_keys([text]) or "{}" in text
