"""Shared files hold no local paths, and an export still finds its data on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from red_cli.edit.adapter_config import CONFIG_FILE
from red_cli.export.auxiliary_files import without_local_paths
from red_cli.export.shared_recipe import exported_recipe, shared_name, shared_recipe
from tests.export.test_export import FakeHub, edit_json
from tests.tiny import make_base, make_data

FORMATS = ("merged", "code", "adapter")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a base, data and a recipe; the base's files hold its path, as old libraries wrote."""
    folder = tmp_path / "home" / "anna"
    base = make_base(folder / "my_base")
    make_data(folder / "reviews")
    edit_json(base / "config.json", _name_or_path=str(base))
    edit_json(base / "tokenizer_config.json", special_tokens_map_file=str(base / "x.json"), name_or_path=str(base))
    (folder / "mine.yaml").write_text(
        f"task: {{name: classification}}\nmodel: {{name_or_path: my_base}}\n"
        f"data: {{train: reviews/train.csv, validation: reviews/validation.csv}}\n"
        f"train: {{max_steps: 1, micro_batch_size: 8, batch_size: 8}}\n"
        f"launch: {{main_process_ip: 10.1.2.3}}\noutput: {{dir: {folder / 'run'}}}\n"
    )
    return folder


def files_with(folder: Path, words: str) -> list[str]:
    """Files that hold `words`."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.name for path in files if words.encode() in path.read_bytes()]


def test_cards_and_exports(red: Callable, home: Path, tmp_path: Path) -> None:
    assert red("train", home / "mine.yaml").code == 0
    run, place = home / "run", str(home)
    assert "README.md" not in files_with(run, place)
    assert "./my_base" in (run / "README.md").read_text()
    kept = yaml.safe_load((run / "recipe.yaml").read_text())  # repeats the run
    assert kept["model"]["name_or_path"] == str(home / "my_base")
    for form in FORMATS:
        output = tmp_path / form
        assert red("export", run, "-o", output, "--format", form).code == 0
        # The data of red eval, and the base of an adapter, which would not be found otherwise
        assert files_with(output, place) == ([CONFIG_FILE] if form == "adapter" else []) + ["recipe.yaml"]
        assert files_with(output, "10.1.2.3") == []
        recipe = yaml.safe_load((output / "recipe.yaml").read_text())
        assert recipe["model"]["name_or_path"] == "./my_base"
        assert recipe["data"]["validation"] == str(home / "reviews" / "validation.csv")
        assert {"output", "launch"}.isdisjoint(recipe)
        front = yaml.safe_load((output / "README.md").read_text().split("---\n")[1])
        assert "base_model" not in front  # a local folder is nothing on the Hub
        allowed = ["model.trust_remote_code=true"] if form == "code" else []
        assert red("eval", output, *allowed).code == 0


@pytest.mark.parametrize("form", FORMATS)
def test_an_upload_holds_no_path(
    red: Callable, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    uploaded = tmp_path / "uploaded"

    class Hub(FakeHub):
        calls: list[tuple] = []  # noqa: RUF012 - of the class, as in FakeHub

        def upload_folder(self, *, folder_path: Path, repo_id: str, commit_message: str) -> None:
            shutil.copytree(folder_path, uploaded)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    assert red("train", home / "mine.yaml").code == 0
    outcome = red("export", home / "run", "-o", tmp_path / "out", "--format", form, "--push-to-hub", "me/mine")
    assert outcome.code == 0, outcome.err
    assert files_with(uploaded, str(tmp_path)) == []
    assert files_with(uploaded, "anna") == []
    assert "./my_base" in (uploaded / "README.md").read_text()
    assert (str(home / "my_base") in outcome.err) == (form == "adapter")
    outcome = red("eval", tmp_path / "out", *(["model.trust_remote_code=true"] if form == "code" else []), "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (
        2,
        "base-not-found" if form == "adapter" else "file-not-found",
    )
    assert ("my_base" if form == "adapter" else "validation.csv") in outcome.err
    data = [f"data.train={home / 'reviews' / 'train.csv'}", f"data.validation={home / 'reviews' / 'validation.csv'}"]
    keys = {"merged": [], "code": ["model.trust_remote_code=true"], "adapter": [f"model.name_or_path={home}/my_base"]}
    assert red("eval", tmp_path / "out", *data, *keys[form]).code == 0


def test_a_base_on_the_hub_keeps_its_name() -> None:
    assert shared_name("FacebookAI/roberta-base") == "FacebookAI/roberta-base"
    for local in ("/home/anna/my_base", "/home/anna/my_base/", "~/my_base", "../my_base", r"C:\anna\my_base"):
        assert shared_name(local) == "./my_base"


def test_a_recipe_for_others() -> None:
    recipe = {
        "task": {"template": "/{{ messages }}"},
        "model": {"name_or_path": "gpt2"},
        "data": {"path": "/home/anna/reviews", "train": None, "columns": {"text": "/text"}},
        "train": {"resume_from_checkpoint": "/home/anna/run/checkpoints/step-1"},
        "launch": {"deepspeed_config": "/home/anna/x.json"},
        "output": {"dir": "/home/anna/run"},
    }
    before = json.dumps(recipe)
    kept = {"task": recipe["task"], "model": recipe["model"], "train": {}}
    assert exported_recipe(recipe) == {**kept, "data": recipe["data"]}
    assert shared_recipe(recipe) == {**kept, "data": {**recipe["data"], "path": "./reviews"}}
    assert json.dumps(recipe) == before


def test_local_paths_in_a_bases_files() -> None:
    content = {"_name_or_path": "/home/anna/x", "name_or_path": "a/b", "pad_token": "/", "tokenizer_file": r"C:\x"}
    assert without_local_paths(content) == {"name_or_path": "a/b", "pad_token": "/"}
