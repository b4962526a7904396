"""A recipe that extends another: what it inherits, where faults are, what is refused, and copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from red_cli.errors import UserError
from red_cli.recipe.bundled_recipes import find_recipe, recipe_names
from red_cli.recipe.copying import copy_recipe
from red_cli.recipe.load import load_recipe, load_recorded_recipe, loadable_variants
from red_cli.recipe.schema import resolved
from red_cli.recipe.yaml_file import dump, read_document
from tests.failures import fault_at

BASE = """task: {name: classification}
model: {name_or_path: org/model}
data: {path: ./rows, max_length: 64}
train:
  learning_rate: 1e-2
  report_to: [tensorboard]
variants:
  small: {model: {name_or_path: org/small}, train: {seed: 7}}
"""
OWN = """extends: base/reviews.yaml
train: {learning_rate: 2e-2, report_to: []}
variants:
  small: {train: {seed: 8}}
  large: {model: {name_or_path: org/large}}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A recipe that extends one in a subfolder."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "reviews.yaml").write_text(BASE)
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return path


def test_keys_and_variants_merge(own: Path) -> None:
    loaded = load_recipe(str(own))
    assert loaded.name == "own"
    assert (loaded.recipe.train.learning_rate, loaded.recipe.train.report_to) == (2e-2, [])
    assert loaded.recipe.data.max_length == 64
    assert loadable_variants(own) == ["small", "large"]
    small = load_recipe(str(own), "small").recipe
    assert (small.model.name_or_path, small.train.seed, small.train.learning_rate) == ("org/small", 8, 2e-2)
    assert load_recipe(str(own), "large", ["train.seed=9"]).recipe.train.seed == 9


def test_paths_start_at_the_folder_of_their_file(own: Path) -> None:
    assert load_recipe(str(own)).recipe.data.path == str(own.parent / "base" / "rows")
    own.write_text("extends: base/reviews.yaml\ndata: {path: ./rows}\n")
    assert load_recipe(str(own)).recipe.data.path == str(own.parent / "rows")


def test_a_chain(own: Path) -> None:
    last = own.parent / "last.yaml"
    last.write_text("extends: ./own.yaml\ntrain: {seed: 1}\n")
    recipe = load_recipe(str(last)).recipe
    assert (recipe.train.seed, recipe.train.learning_rate, recipe.model.name_or_path) == (1, 2e-2, "org/model")


def test_a_bundled_recipe_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "glue_rte.yaml"  # its own name is no circle
    path.write_text("extends: glue_rte\ntrain: {seed: 1}\n")
    bundled = load_recipe("glue_rte", "roberta-large", ["train.seed=1"]).recipe
    assert load_recipe(str(path), "roberta-large").recipe == bundled


def test_a_resolved_recipe_extends_nothing(own: Path) -> None:
    assert "extends" not in resolved(load_recipe(str(own)).recipe)


# name -> (change to the file, the file that it extends, where the fault of train.sed is)
FAULTS = {
    "in the file": ("train: {seed: 1}", "train: {sed: 1}", "base/reviews.yaml", "own.yaml, line 2"),
    "in the base": ("seed: 1", "seed: 1", "faulty.yaml", "faulty.yaml, line 3"),
    "in a variant of the base": ("seed: 1", "seed: 1", "variant.yaml", "variant.yaml, line 3"),
}


@pytest.mark.parametrize(("old", "new", "base", "where"), FAULTS.values(), ids=FAULTS)
def test_a_fault_has_the_line_of_its_own_file(own: Path, old: str, new: str, base: str, where: str) -> None:
    start = "task: {name: classification}\nmodel: {name_or_path: org/model}\n"
    (own.parent / "faulty.yaml").write_text(f"{start}train: {{sed: 1}}\n")
    (own.parent / "variant.yaml").write_text(f"{start}variants: {{a: {{train: {{sed: 1}}}}}}\n")
    own.write_text(f"extends: {base}\ntrain: {{seed: 1}}\n".replace(old, new))
    with pytest.raises(UserError) as caught:
        load_recipe(str(own))
    fault = fault_at(caught.value, "train.sed")
    assert (fault["where"], fault["code"]) == (f"{own.parent}/{where}", "unknown-key")


# name -> (value of extends, code, what the message contains)
REFUSED = {
    "no such file": ("missing.yaml", "recipe-not-found", "own.yaml, line 1: extends: no such file: 'missing.yaml'"),
    "no such name": ("glue_rtee", "recipe-not-found", "Did you mean glue_rte?"),
    "itself": ("own.yaml", "invalid-value", "own.yaml, line 1: extends: "),
    "a circle": ("circle.yaml", "invalid-value", "circle.yaml, line 1: extends: "),
    "another file": ("notes.yaml", "invalid-value", "notes.yaml is not a recipe"),
    "no YAML": ("rows.csv", "invalid-yaml", "rows.csv, line 1: "),
    "a folder": ("base/", "recipe-not-found", "'base/'"),
    "a device": ("../../../../../../../../../../dev/zero", "recipe-not-found", "dev/zero'"),
    "an absolute path": ("/etc/passwd", "invalid-value", "line 1: extends: "),
    "the home folder": ("~/recipe.yaml", "invalid-value", "line 1: extends: "),
    "a number": ("3", "invalid-value", "line 1: extends: "),
    "nothing": ("", "invalid-value", "line 1: extends: "),
    "a list": ("[base/reviews.yaml]", "invalid-value", "line 1: extends: "),
    "a long name": ("x" * 5000, "recipe-not-found", "no such recipe"),
    "too many": ("many1.yaml", "invalid-value", "more than 10 recipes"),
}


@pytest.mark.parametrize(("value", "code", "fact"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_extended(own: Path, value: str, code: str, fact: str) -> None:
    folder = own.parent
    (folder / "circle.yaml").write_text("extends: own.yaml\n")
    (folder / "notes.yaml").write_text("secret: 1\n")
    (folder / "rows.csv").write_text("text,label\nfine,1\n")
    for number in range(1, 12):
        (folder / f"many{number}.yaml").write_text(f"extends: many{number + 1}.yaml\ntrain: {{seed: 1}}\n")
    own.write_text(f"extends: {value}\n")
    with pytest.raises(UserError) as caught:
        load_recipe(str(own))
    assert caught.value.code == code
    assert fact in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_recipe_of_a_folder_that_is_opened_extends_nothing(own: Path) -> None:
    with pytest.raises(UserError, match=r"own\.yaml, line 1: extends: ") as caught:
        load_recorded_recipe(own)
    assert caught.value.code == "invalid-value"


BUNDLED = [name for name in recipe_names() if "extends" in read_document(find_recipe(name)).data]


@pytest.mark.parametrize("name", BUNDLED)
def test_a_copy_of_a_bundled_recipe_works(tmp_path: Path, name: str) -> None:
    copies = copy_recipe(name, tmp_path)
    assert [copy.name for copy in copies] == [f"{name}.yaml", read_document(copies[0]).data["extends"]]
    copied, bundled = load_recipe(str(copies[0])).recipe, load_recipe(name).recipe
    assert dump(resolved(copied)).replace(str(tmp_path), str(find_recipe(name).parent)) == dump(resolved(bundled))


def test_copies(own: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    assert copy_recipe(str(own), target) == [target / "own.yaml", target / "base" / "reviews.yaml"]
    assert load_recipe(str(target / "own.yaml")).recipe.data.path == str(target / "base" / "rows")
    (own.parent / "other.yaml").write_text(OWN)
    copy_recipe(str(own.parent / "other.yaml"), target)  # the base is there already, and the same
    (target / "other.yaml").unlink()
    (target / "base" / "reviews.yaml").write_text(f"{BASE}# changed\n")
    with pytest.raises(UserError, match=r"reviews\.yaml exists") as caught:
        copy_recipe(str(own.parent / "other.yaml"), target)
    assert caught.value.code == "output-exists"
    assert not (target / "other.yaml").exists()


def test_a_copy_of_what_extends_a_file_elsewhere(own: Path) -> None:
    inner = own.parent / "base" / "inner.yaml"
    inner.write_text("extends: ../own.yaml\n")
    with pytest.raises(UserError, match=r"inner\.yaml, line 1: extends: ") as caught:
        copy_recipe(str(inner), own.parent / "copy")
    assert caught.value.code == "path-outside-folder"


def test_commands(red, own: Path) -> None:
    assert red("recipes", "show", own).out == OWN
    assert red("recipes", "show", own, "--variant", "large", "--json").json["model"]["name_or_path"] == "org/large"
    schema = red("schema").json
    assert {"type": "string"} in schema["properties"]["extends"]["anyOf"]
    assert schema["anyOf"] == [{"required": ["task", "model"]}, {"required": ["extends"]}]
