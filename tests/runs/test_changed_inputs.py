"""A run resumes, and a trained model is used, on the inputs of the training only: rows, labels, tokenizer, base."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from red_cli import load_adapter
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE
from red_cli.errors import UserError
from red_cli.train import loop as train_module
from tests.end_to_end.test_instruction_tuning import talk_data, talk_recipe, talking_base
from tests.tiny import make_base, make_data

Change = Callable[[Path], object]


def interrupted(red: Callable, recipe: Path, step: int, *keys: str) -> None:
    """Train `recipe` until `step`, where Ctrl-C stops it."""
    real_step = train_module.optimizer_step

    def stopping(session, rows):
        if session.state.step + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "optimizer_step", stopping)
        assert red("train", recipe, *keys).code == 130


def with_lines(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")


def swapped(line: str) -> str:
    word = {"positive": "negative", "negative": "positive"}
    return next((line.replace(old, new) for old, new in word.items() if old in line), line)


def scale_tensor(folder: Path, name: str, factor: float) -> None:
    file = folder / "base" / "model.safetensors"
    tensors = load_file(file)
    key = next(key for key in tensors if name in key)
    save_file({**tensors, key: tensors[key] * factor}, file, metadata={"format": "pt"})


def change_json(file: Path, **keys: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def swap_words(folder: Path) -> None:
    """Exchange the ids of two words that the data have."""
    file = folder / "base" / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    words["the"], words["very"] = words["very"], words["the"]
    file.write_text(json.dumps(content))


def classification(folder: Path) -> Path:
    make_base(folder / "base")
    make_data(folder / "data")
    recipe = folder / "reviews.yaml"
    recipe.write_text(
        f"""task: {{name: classification, labels: [negative, positive]}}
model: {{name_or_path: {folder / "base"}}}
data: {{path: {folder / "data"}}}
train: {{learning_rate: 1e-2, num_train_epochs: 2, batch_size: 16, micro_batch_size: 16}}
output: {{dir: {folder / "run"}}}
"""
    )
    return recipe


def conversations(folder: Path) -> Path:
    base, data = talking_base(folder / "base"), talk_data(folder / "data")
    return talk_recipe(folder, base, data)


# name -> (recipe, change of its folder, what the message lists)
ROWS: dict[str, tuple[Callable, Change, str]] = {
    "fewer rows": (
        classification,
        lambda folder: with_lines(folder / "data" / "train.csv", lambda lines: lines[:60]),
        "train: 96 rows, now 59",
    ),
    "other labels": (
        classification,
        lambda folder: with_lines(folder / "data" / "train.csv", lambda lines: [*map(swapped, lines)]),
        "train: the rows or labels",
    ),
    "other validation rows": (
        classification,
        lambda folder: with_lines(folder / "data" / "validation.csv", lambda lines: [lines[0], *lines[:0:-1]]),
        "validation: the rows or labels",
    ),
    "an edited weight": (
        classification,
        lambda folder: scale_tensor(folder, "layer.1.output.dense.weight", 1.5),
        "the base's weights changed",
    ),
    "a weight that is not edited": (
        classification,
        lambda folder: scale_tensor(folder, "word_embeddings", 1.5),
        "the base's weights changed",
    ),
    "the configuration": (
        classification,
        lambda folder: change_json(folder / "base" / "config.json", layer_norm_eps=1e-3),
        "the base's configuration changed",
    ),
    "the tokenizer": (classification, swap_words, "train: the rows or labels"),
    "the chat template": (
        conversations,
        lambda folder: (folder / "base" / "chat_template.jinja").write_text(
            (folder / "base" / "chat_template.jinja").read_text().replace("'u '", "'v '")
        ),
        "train: the rows or labels",
    ),
    "other conversations": (
        conversations,
        lambda folder: with_lines(folder / "data" / "train.jsonl", lambda lines: lines[:33]),
        "train: 48 rows, now 33",
    ),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> dict[Callable, Path]:
    return {make: tmp_path_factory.mktemp(make.__name__) for make in (classification, conversations)}


@pytest.mark.parametrize(("make", "change", "fact"), ROWS.values(), ids=ROWS.keys())
def test_a_run_resumes_on_the_same_inputs_only(
    red: Callable, begun: dict[Callable, Path], make: Callable, change: Change, fact: str
) -> None:
    folder = begun[make]
    recipe = folder / ("reviews.yaml" if make is classification else "talk.yaml")
    if not recipe.is_file():
        make(folder)
        interrupted(red, recipe, 2)
        shutil.copytree(folder, folder.with_name(f"{folder.name}-before"))
    change(folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    outcome = red("train", recipe, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "inputs-changed")
    assert "step-2" in outcome.err
    assert [line for line in outcome.err.splitlines() if line.startswith(f"  {fact}")]
    assert {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")} == before  # the run is untouched
    for name in ("base", "data"):
        shutil.rmtree(folder / name)
        shutil.copytree(folder.with_name(f"{folder.name}-before") / name, folder / name)


def test_with_its_inputs_restored_a_run_resumes(red: Callable, tmp_path: Path) -> None:
    recipe = classification(tmp_path)
    assert red("train", recipe, f"output.dir={tmp_path / 'whole'}").code == 0
    interrupted(red, recipe, 6)
    scale_tensor(tmp_path, "word_embeddings", 2.0)
    assert red("train", recipe).code == 2
    scale_tensor(tmp_path, "word_embeddings", 0.5)
    assert red("train", recipe).code == 0
    weights = [(tmp_path / run / "adapter" / WEIGHTS_FILE).read_bytes() for run in ("whole", "run")]
    assert weights[0] == weights[1]


def test_a_checkpoint_without_a_record_resumes_with_a_note(red: Callable, tmp_path: Path) -> None:
    """As version 0.1 wrote them."""
    recipe = classification(tmp_path)
    interrupted(red, recipe, 6)
    state = tmp_path / "run" / "checkpoints" / "step-6" / "state.json"
    content = json.loads(state.read_text())
    del content["inputs"]
    state.write_text(json.dumps(content))
    outcome = red("train", recipe)
    assert outcome.code == 0
    assert f"{state.parent} has no record" in outcome.err


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By method: a folder with a base, data and a finished run."""
    from red_cli.recipe.load import load_recipe
    from red_cli.train.loop import train

    folders = {}
    for method in ("red", "head"):
        folder = tmp_path_factory.mktemp(method)
        train(load_recipe(str(classification(folder)), overrides=[f"method={method}", "train.num_train_epochs=1"]))
        folders[method] = folder
    folder = tmp_path_factory.mktemp("chat")
    train(load_recipe(str(conversations(folder))))
    return {**folders, "chat": folder}


BASES: dict[str, tuple[str, Change, str]] = {
    "an edited weight": ("red", lambda folder: scale_tensor(folder, "layer.1.output.dense.weight", 1.5), "weights"),
    "another weight": ("red", lambda folder: scale_tensor(folder, "word_embeddings", 1.5), "weights"),
    "the tokenizer": ("red", swap_words, "tokenizer"),
    "the configuration": (
        "red", lambda folder: change_json(folder / "base" / "config.json", layer_norm_eps=1e-3), "configuration",
    ),
    "under another method": ("head", lambda folder: scale_tensor(folder, "word_embeddings", 1.5), "weights"),
    "in a chat": ("chat", lambda folder: scale_tensor(folder, "embed_tokens", 1.5), "weights"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "part"), BASES.values(), ids=BASES.keys())
def test_a_changed_base_is_refused(
    red: Callable, finished: dict[str, Path], tmp_path: Path, kind: str, change: Change, part: str
) -> None:
    folder = finished[kind]
    shutil.copytree(folder / "base", tmp_path / "base")
    run = folder / "run"
    words = f"the {part} of {folder / 'base'}"

    def require_refused(*command: object) -> None:
        outcome = red(*command)
        assert (outcome.code, words in outcome.err) == (2, True), outcome.err
        if "--json" in command:
            assert outcome.json["error"]["code"] == "base-changed"

    change(folder)
    try:
        require_refused("eval", run, "--output", tmp_path / "scores", "--json")
        assert not (tmp_path / "scores").exists()
        if kind == "chat":
            require_refused("chat", run)
        if kind != "head":
            require_refused("export", run, "--output", tmp_path / "merged", "--json")
        if kind == "red":
            model = AutoModelForSequenceClassification.from_pretrained(folder / "base")
            with pytest.raises(UserError) as caught:
                load_adapter(model, run / "adapter")
            assert (caught.value.code, words in caught.value.message) == ("base-changed", True)
            assert not [name for name, _ in model.named_parameters() if ".red." in name]
    finally:
        shutil.rmtree(folder / "base")
        shutil.copytree(tmp_path / "base", folder / "base")
    assert red("eval", run, "--output", tmp_path / "scores").code == 0


def test_the_same_base_saved_again_is_the_same(red: Callable, finished: dict[str, Path], tmp_path: Path) -> None:
    """In shards, and with its tokenizer's configuration written in another order."""
    folder = finished["red"]
    again = tmp_path / "again"
    shutil.copytree(folder / "base", again)
    tensors = load_file(again / "model.safetensors")
    (again / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, again / shard, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (again / "model.safetensors.index.json").write_text(json.dumps(index))
    config = json.loads((again / "tokenizer_config.json").read_text())
    (again / "tokenizer_config.json").write_text(json.dumps(dict(sorted(config.items(), reverse=True))))
    assert AutoTokenizer.from_pretrained(again).vocab_size
    moved = red("eval", folder / "run", f"model.name_or_path={again}", "--output", tmp_path / "scores", "--json")
    assert moved.code == 0, moved.err
    assert moved.json["scores"] == red("eval", folder / "run", "--output", tmp_path / "own", "--json").json["scores"]
    model = AutoModelForSequenceClassification.from_pretrained(again)
    assert load_adapter(model, folder / "run" / "adapter")


def test_an_adapter_of_version_0_1_still_loads(red: Callable, finished: dict[str, Path], tmp_path: Path) -> None:
    """Its digest covers the configuration and the edited tensors; export compares these."""
    folder = finished["red"]
    old = tmp_path / "run"
    shutil.copytree(folder / "run", old)
    config = json.loads((old / "adapter" / CONFIG_FILE).read_text())
    digest = config["base_digest"]
    assert digest.keys() == {"config", "tensors", "weights", "tokenizer"}
    config["base_digest"] = {key: digest[key] for key in ("config", "tensors")}
    (old / "adapter" / CONFIG_FILE).write_text(json.dumps(config))
    assert red("eval", old).code == 0
    assert red("export", old, "--output", tmp_path / "merged").code == 0
    model = AutoModelForSequenceClassification.from_pretrained(folder / "base")
    load_adapter(model, old / "adapter")
    assert torch.isfinite(model(input_ids=torch.tensor([[2, 5, 3]])).logits).all()


def test_a_rate_that_was_searched_on_other_rows_is_not_used(
    red: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends after its search, before its first checkpoint."""
    recipe = classification(tmp_path)
    keys = ["train.learning_rate=auto", "train.rates=absolute", "train.max_steps=96"]

    def ended(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "run_steps", ended)
        assert red("train", recipe, *keys).code == 130
    record = tmp_path / "run" / "learning_rate_search.json"
    assert json.loads(record.read_text())["inputs"]["splits"]["train"]["rows"] == 96
    for change, fact in (
        (lambda: with_lines(tmp_path / "data" / "train.csv", lambda lines: lines[:60]), "train: 96 rows, now 59"),
        (lambda: scale_tensor(tmp_path, "word_embeddings", 1.5), "the base's weights changed"),
    ):
        shutil.copytree(tmp_path / "data", tmp_path / "data-before")
        change()
        outcome = red("train", recipe, *keys, "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, "inputs-changed")
        assert (fact in outcome.err, record.name in outcome.err) == (True, True), outcome.err
        shutil.rmtree(tmp_path / "data")
        (tmp_path / "data-before").rename(tmp_path / "data")
    scale_tensor(tmp_path, "word_embeddings", 1 / 1.5)


def test_seeds_of_different_inputs_are_not_compared(red: Callable, tmp_path: Path) -> None:
    recipe = classification(tmp_path)
    keys = ["train.max_steps=2", f"output.dir={tmp_path / 'runs'}"]
    assert red("train", recipe, *keys, "--seeds", "1").code == 0
    with_lines(tmp_path / "data" / "train.csv", lambda lines: lines[:60])
    outcome = red("train", recipe, *keys, "--seeds", "1,2", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "inputs-changed")
    assert "train: 96 rows, now 59" in outcome.err
    shutil.rmtree(tmp_path / "runs" / "seed1")
    assert red("train", recipe, *keys, "--seeds", "1,2").code == 0
    scale_tensor(tmp_path, "word_embeddings", 1.5)
    outcome = red("train", recipe, *keys, "--seeds", "1,2,3", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "inputs-changed")
    assert "the base's weights changed" in outcome.err


def test_rows_that_a_seed_draws_may_differ_between_seeds(red: Callable, tmp_path: Path) -> None:
    recipe = classification(tmp_path)
    keys = ["train.max_steps=2", "data.max_train_rows=40", f"output.dir={tmp_path / 'runs'}"]
    assert red("train", recipe, *keys, "--seeds", "1,2").code == 0
