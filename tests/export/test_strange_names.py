"""Names in the files of an adapter or a base never become code, markup, or a path to another file."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from red_cli.edit.adapter_config import CONFIG_FILE
from red_cli.methods.trained_description import TRAINED_FILE
from tests.export.test_export import edit_json, prepare
from tests.tiny import sentences, write_csv

LINES = "a\nimport os\n---\n```\n# heading\n<script>"

# changes to adapter_config.json -> code of the error, a fact in its message
ADAPTER_NAMES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a class of several lines": ({"architecture": "GPT2LMHeadModel\nimport os"}, "file-damaged", "key 'architecture'"),
    "a class with code": ({"architecture": "x; import os #"}, "file-damaged", "key 'architecture'"),
    "a class that there is not": ({"architecture": "GPT3LMHeadModel"}, "unsupported-model", "GPT3LMHeadModel"),
    "a function": ({"architecture": "pipeline"}, "unsupported-model", "pipeline"),
    "a path as module": ({"target_modules": ["../../x"]}, "file-damaged", "key 'target_modules.0'"),
    "a module of two lines": ({"target_modules": ["a\nb"]}, "file-damaged", "key 'target_modules.0'"),
    "a layer without end": ({"target_modules": ["h.999999999999.mlp"]}, "file-damaged", "key 'target_modules.0'"),
    "no module": ({"target_modules": []}, "file-damaged", "key 'target_modules'"),
    "a path as head": ({"head": ["/etc/passwd"]}, "file-damaged", "key 'head.0'"),
    "a type of two lines": (
        {"base": {"model_type": "gpt2\n---", "hidden_size": 1, "num_hidden_layers": 1, "vocab_size": 1}},
        "file-damaged",
        "key 'base.model_type'",
    ),
    "layers without end": (
        {"base": {"model_type": "gpt2", "hidden_size": 1, "num_hidden_layers": 10**15, "vocab_size": 1}},
        "file-damaged",
        "key 'base.num_hidden_layers'",
    ),
}


@pytest.mark.parametrize("form", [["merged"], ["code", "--no-verify"]], ids=["merged", "code"])
@pytest.mark.parametrize(("changes", "code", "fact"), ADAPTER_NAMES.values(), ids=ADAPTER_NAMES.keys())
def test_names_in_an_adapter(
    red: Callable, tmp_path: Path, changes: dict[str, Any], code: str, fact: str, form: list[str]
) -> None:
    prepare(tmp_path, "gpt2")
    edit_json(tmp_path / "adapter" / CONFIG_FILE, **changes)
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "out", "--format", *form, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code), outcome.err
    assert fact in outcome.err
    assert not (tmp_path / "out").exists()
    if fact.startswith("key"):
        outcome = red("report", tmp_path / "adapter", "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, code), outcome.err
        assert fact in outcome.err


# changes to the base's config.json -> code of the error, a fact in its message
BASE_NAMES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a class of several lines": (
        {"architectures": ["GPT2LMHeadModel\nimport os"]},
        "unsupported-model",
        "architectures",
    ),
    "no list": ({"architectures": "GPT2LMHeadModel"}, "unsupported-model", "architectures"),
    "no class": ({"architectures": []}, "unsupported-model", "/base/config.json"),
    "a type of two lines": ({"model_type": "gpt2\n---"}, "file-damaged", "model_type"),
    "biases by a modelling file": ({"red_biases": {}}, "unsupported-model", "base"),
}


@pytest.mark.parametrize("form", [["merged"], ["code", "--no-verify"]], ids=["merged", "code"])
@pytest.mark.parametrize(("changes", "code", "fact"), BASE_NAMES.values(), ids=BASE_NAMES.keys())
def test_names_in_a_base(
    red: Callable, tmp_path: Path, changes: dict[str, Any], code: str, fact: str, form: list[str]
) -> None:
    prepare(tmp_path, "gpt2")
    edit_json(tmp_path / "adapter" / CONFIG_FILE, architecture=None, base_digest=None)
    edit_json(tmp_path / "base" / "config.json", **changes)
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "out", "--format", *form, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code), outcome.err
    assert fact in outcome.err
    assert not (tmp_path / "out").exists()


def blocks(card: str, language: str) -> list[str]:
    """The contents of a card's code blocks, as CommonMark finds them."""
    found, lines = [], iter(card.split("\n"))
    for line in lines:
        if match := re.fullmatch(r" {0,3}(`{3,})(\w*)", line):
            body = []
            for inner in lines:
                if re.fullmatch(rf" {{0,3}}{match[1]}`* *", inner):
                    break
                body.append(inner)
            found.append((match[2], "\n".join(body)))
    return [body for kind, body in found if kind == language]


@pytest.mark.parametrize("form", ["merged", "code", "adapter"])
def test_strange_names_do_not_change_a_card(red: Callable, recipe: Path, tmp_path: Path, form: str) -> None:
    """With quotes, lines and fences in the names of base, output, pattern and labels."""
    labels = {"positive": "a\n```\n# b", "negative": '"\n---\n'}
    data = tmp_path / 'da"ta`'
    data.mkdir()
    for seed, split in enumerate(("train", "validation", "test")):
        rows = [{**row, "label": labels[str(row["label"])]} for row in sentences(24, seed)]
        write_csv(data / f"{split}.csv", rows)
    keys = [
        f"data.path={data}",
        f"task.labels={json.dumps(list(labels.values()))}",
        r"red.target_modules=.*\.output\.dense|```|<script>",
    ]
    assert red("train", recipe, *keys, "train.max_steps=1").code == 0
    name = 'it\'s "mine"\n---\n```\n# heading'
    output = tmp_path / name
    outcome = red("export", tmp_path / "run", "-o", output, "--format", form, "--no-verify")
    assert outcome.code == 0, outcome.err
    if form == "adapter":  # as its name may come from someone else
        edit_json(output / CONFIG_FILE, base_model_name_or_path=LINES, revision='"); import os; ("')
        outcome = red("export", output, "-o", tmp_path / "again", "--format", "adapter", "--base", LINES)
        output = tmp_path / "again"
        assert outcome.code == 0, outcome.err
    for card in ((output / "README.md").read_text(), (tmp_path / "run" / "README.md").read_text()):
        _, front, body = card.split("---\n", 2)
        assert yaml.safe_load(front)["library_name"] == "transformers"
        headings = [line for line in card.splitlines() if line.startswith("#")]
        assert len(headings) == 3, headings
        text = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", body.split("## Recipe")[0], flags=re.DOTALL)
        assert "<script>" not in text
        assert yaml.safe_load(blocks(card, "yaml")[0])["task"]["labels"] == list(labels.values())
    code = blocks((output / "README.md").read_text(), "python")[0]
    statements = [type(node).__name__ for node in ast.parse(code).body]
    pipeline = ["Assign", "Expr"]
    loading = ["Import", "ImportFrom", "Assign", "Assign", "Expr"] if form == "adapter" else ["ImportFrom"]
    assert statements == [*loading, *pipeline]
    if form != "adapter":
        assert red("eval", output, *(["model.trust_remote_code=true"] if form == "code" else [])).code == 0


# changes to trained.json -> code of the error, a fact in its message
TRAINED_NAMES: dict[str, tuple[dict[str, Any], str, str]] = {
    "weights elsewhere": ({"weights_file": "../../secret.safetensors"}, "file-damaged", "key 'weights_file'"),
    "weights at the root": ({"weights_file": "/tmp/secret.safetensors"}, "file-damaged", "key 'weights_file'"),
    "weights above": ({"weights_file": ".."}, "file-damaged", "key 'weights_file'"),
    "another method": ({"method": "lora\n"}, "file-damaged", "key 'method'"),
    "options of no method": ({"options": {"rank": "x"}}, "file-damaged", "key 'options'"),
    "a path as head": ({"head": ["../x"]}, "file-damaged", "key 'head.0'"),
    "a head that there is not": ({"head": ["classifier.weights"]}, "base-mismatch", "classifier.weights"),
}


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory, base: Path, data: Path) -> Path:
    pytest.importorskip("peft")
    from red_cli.recipe.load import load_recipe
    from red_cli.train.loop import train

    folder = tmp_path_factory.mktemp("lora")
    (folder / "recipe.yaml").write_text(
        f"task: {{name: classification}}\nmethod: lora\nmodel: {{name_or_path: {base}}}\ndata: {{path: {data}}}\n"
        f"train: {{max_steps: 1, micro_batch_size: 8, batch_size: 8}}\noutput: {{dir: {folder / 'run'}}}\n"
    )
    train(load_recipe(str(folder / "recipe.yaml")))
    return folder / "run"


@pytest.mark.parametrize(("changes", "code", "fact"), TRAINED_NAMES.values(), ids=TRAINED_NAMES.keys())
def test_names_in_what_another_method_trained(
    red: Callable, lora_run: Path, changes: dict[str, Any], code: str, fact: str
) -> None:
    file = lora_run / "adapter" / TRAINED_FILE
    before = file.read_text()
    try:
        file.write_text(json.dumps({**json.loads(before), **changes}))
        outcome = red("eval", lora_run, "--json")
    finally:
        file.write_text(before)
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code), outcome.err
    assert fact in outcome.err


def test_damaged_metrics_are_an_error(red: Callable, recipe: Path, tmp_path: Path) -> None:
    red("train", recipe, "train.max_steps=1")
    edit_json(tmp_path / "run" / "metrics.json", parameters={"edited": "many"})
    outcome = red("export", tmp_path / "run", "-o", tmp_path / "out", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "file-damaged"), outcome.err
    assert "metrics.json" in outcome.err
    assert not (tmp_path / "out").exists()
