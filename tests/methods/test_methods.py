"""Every method of the table: trained, saved, scored and resumed in the same way."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from red_cli.edit.trained_head import head_parameter_names
from red_cli.errors import UserError
from red_cli.methods.attach_save_load import attach_method
from red_cli.recipe.methods import METHODS
from red_cli.recipe.schema import Recipe
from red_cli.train import loop as train_module
from tests.conftest import run_red, write_recipe
from tests.extras import cases, methods, needs_extra
from tests.tiny import LAYERS, WIDTH, first_output, make_base, read_lines, tiny_inputs, tiny_model

# Of the tiny BERT (3 layers, width 32, FFN 64); worked out by hand from each method's definition
HEAD = 2 * (WIDTH + 1)
PARTS = {
    "red": LAYERS * 2 * WIDTH,
    "head": 0,
    "lora": LAYERS * 2 * 8 * (WIDTH + WIDTH),  # rank 8 for query and value
    "ia3": LAYERS * (WIDTH + WIDTH + 64),  # key, value, the FFN's hidden state
    # a layer's query, key, value, attention output, FFN in and out, two norms; the embeddings' norm; the pooler
    "bitfit": LAYERS * (4 * WIDTH + 64 + WIDTH + 2 * WIDTH) + 2 * WIDTH,
}
NOT_RED = [name for name in METHODS if name != "red"]


def recipe_of(method: str) -> Recipe:
    return Recipe.model_validate(
        {"task": {"name": "classification"}, "model": {"name_or_path": "x"}, "data": {"path": "x"}, "method": method}
    )


def trained_files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "adapter").glob("*.safetensors")}


def options_of(method: str) -> list[str]:
    dropout = ["lora.dropout=0.1"] if method == "lora" else []
    return [f"method={method}", f"train.learning_rate={'1e-3' if method == 'full' else '2e-2'}",
            "train.weight_decay=0.1", *dropout]  # fmt: skip


@pytest.fixture(scope="module")
def trained_once(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A method -> the folder of its run, which no test may change."""
    runs: dict[str, Path] = {}

    def train(method: str) -> Path:
        if method not in runs:
            recipe = write_recipe(tmp_path_factory.mktemp(method), base, data)
            outcome = run_red("train", recipe, *options_of(method))
            assert outcome.code == 0, outcome.err
            runs[method] = recipe.parent / "run"
        return runs[method]

    return train


@pytest.fixture
def trained(trained_once: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A method -> a copy of the folder of its run."""
    return lambda method: Path(shutil.copytree(trained_once(method), tmp_path / "run"))


@pytest.mark.parametrize("method", methods(METHODS))
def test_a_run_learns_and_is_scored_again_alike(red, recipe: Path, trained: Callable[[str], Path], method: str) -> None:
    run = trained(method)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["method"] == method
    assert metrics["parameters"]["head"] == HEAD
    base = metrics["parameters"]["base"]
    assert metrics["parameters"]["edited"] == (base if method == "full" else PARTS[method])
    assert base == sum(p.numel() for p in tiny_model("bert").base_model.parameters())
    losses = [line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line]
    assert sum(losses[-4:]) < sum(losses[:4])
    before = (run / "predictions" / "validation.jsonl").read_text()
    evaluated = red("eval", run, "--split", "validation", "--json").json
    assert evaluated["scores"] == pytest.approx(
        {name: value for name, value in metrics["splits"]["validation"].items() if name != "examples"}, abs=0
    )
    assert (run / "predictions" / "validation.jsonl").read_text() == before
    assert red("eval", run / "adapter", "--split", "validation", "--json").json["scores"] == evaluated["scores"]
    planned = red("check", recipe, f"method={method}", "--json").json["plan"]
    assert planned["counts"] == {key: metrics["parameters"][key] for key in ("edited", "head", "base")}


@pytest.mark.parametrize("method", methods(NOT_RED))
def test_going_on_ends_in_the_same_weights(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_once: Callable[[str], Path], method: str
) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        result = real_step(session, rows)
        if session.state.step + 1 == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", recipe, *options_of(method)).code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    assert red("train", recipe, *options_of(method), "--resume").code == 0
    assert trained_files(tmp_path / "run") == trained_files(trained_once(method))


@pytest.mark.parametrize("method", methods(METHODS))
def test_what_trains_is_what_the_method_says(base: Path, method: str) -> None:
    model = tiny_model("bert")
    head = head_parameter_names(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = attach_method(model, recipe_of(method), head)
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert free == set(trained.names)
    assert trained.head == head
    assert trained.no_decay <= set(trained.method_parameters)
    # Nothing that was there has another value, under whatever name
    after = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())


@needs_extra("baselines")
@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "modernbert"])
@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_peft_itself_loads_the_folder(
    red, recipe: Path, data: Path, tmp_path: Path, model_type: str, method: str
) -> None:
    from peft import PeftModel

    folder = make_base(tmp_path / "base", model_type)
    options = [f"model.name_or_path={folder}", f"method={method}", "train.learning_rate=5e-2", "train.max_steps=4"]
    assert red("train", recipe, *options).code == 0
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    loaded = PeftModel.from_pretrained(model, tmp_path / "run" / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = (data / "validation.csv").read_text().splitlines()[1:]
    answers = []
    for row in rows:
        logits = loaded(**tokenizer(row.split(",")[0], return_tensors="pt")).logits
        answers.append(("negative", "positive")[int(logits.argmax())])
    written = read_lines(tmp_path / "run" / "predictions" / "validation.jsonl")
    assert answers == [line["prediction"] for line in written]


# model type -> trainable parameters of each method without the head; None: the method does not fit
ARCHITECTURES = {
    "gpt2": {"lora": 3 * 8 * (32 + 96), "ia3": 3 * (96 + 64), "bitfit": True},
    "llama": {"lora": 3 * 8 * (32 + 32 + 32 + 16), "ia3": 3 * (16 + 16 + 64), "bitfit": None},
    "t5": {"lora": 9 * 8 * 4 * 32, "ia3": 9 * 2 * 32 + 6 * 64, "bitfit": None},
    "bloom": {"lora": 3 * 8 * (32 + 96), "ia3": 3 * (96 + 128), "bitfit": True},
    "mixtral": {"lora": 3 * 8 * (32 + 32 + 32 + 16), "ia3": None, "bitfit": None},
    "vit": {"lora": None, "ia3": None, "bitfit": True},
}


@needs_extra("baselines")
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_other_architectures_begin_as_their_base(model_type: str) -> None:
    inputs = tiny_inputs(model_type)
    with torch.inference_mode():
        before = first_output(tiny_model(model_type), inputs)
    for method, expected in ARCHITECTURES[model_type].items():
        model = tiny_model(model_type)
        if expected is None:
            with pytest.raises(UserError):
                attach_method(model, recipe_of(method), [])
            continue
        trained = attach_method(model, recipe_of(method), [])
        assert trained.counts.edited == expected or (expected is True and trained.counts.edited > 0)
        assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == set(
            trained.method_parameters
        )
        with torch.inference_mode():
            assert torch.equal(first_output(model, inputs), before)
    with pytest.raises(UserError) as caught:
        attach_method(tiny_model(model_type), recipe_of("head"), [])
    assert caught.value.code == "unsupported-model"


@needs_extra("baselines")
def test_options_of_lora(red, recipe: Path, tmp_path: Path) -> None:
    options = ["method=lora", "lora.rank=2", "lora.alpha=4", "lora.positions=[ffn]"]
    trained = red("train", recipe, *options, "--json").json
    assert trained["parameters"]["edited"] == LAYERS * 2 * (64 + WIDTH)
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 4.0)
    assert red("eval", tmp_path / "run").code == 0
    counted = red("check", recipe, "method=lora", r"lora.target_modules=.*\.0\..*\.query", "--json").json["plan"]
    assert counted["counts"]["edited"] == 8 * 2 * WIDTH


def test_bitfit_keeps_only_biases(trained_once: Callable[[str], Path]) -> None:
    stored = load_file(trained_once("bitfit") / "adapter" / "trained.safetensors")
    weights = [name for name in stored if not name.endswith("bias")]
    assert weights == ["classifier.weight"]


def test_red_plus_plus_has_the_positions_of_its_architecture(red, recipe: Path, tmp_path: Path) -> None:
    plan = red("check", recipe, "red.positions=red++", "--json").json["plan"]
    assert plan["counts"]["edited"] == LAYERS * 5 * 2 * WIDTH
    fused = make_base(tmp_path / "base", "modernbert")
    options = [f"model.name_or_path={fused}", "red.positions=red++"]
    trained = red("train", recipe, *options, "--json").json
    assert trained["parameters"]["edited"] == LAYERS * 2 * (WIDTH + WIDTH + 3 * WIDTH)
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    assert config["red"]["positions"] == ["ffn", "attn", "qkv"]


@needs_extra("baselines")
def test_a_lower_precision_takes_float32_heads(red, recipe: Path, tmp_path: Path) -> None:
    for method in ("lora", "ia3", "head"):
        options = [f"method={method}", "model.dtype=bfloat16", "train.max_steps=2", f"output.dir={tmp_path / method}"]
        assert red("train", recipe, *options).code == 0
        tensors = next((tmp_path / method / "adapter").glob("*.safetensors"))
        assert {tensor.dtype for tensor in load_file(tensors).values()} == {torch.float32}
        assert red("eval", tmp_path / method).code == 0


def test_at_most_so_many_training_rows(red, recipe: Path, data: Path) -> None:
    def rows(*options: str) -> tuple[int, list]:
        found = red("check", recipe, *options, "--json").json["plan"]
        return found["lengths"]["train"]["rows"], found["examples"]

    everything = rows()
    assert everything[0] == 96
    assert rows("data.max_train_rows=200") == everything
    few = rows("data.max_train_rows=20")
    assert few[0] == 20
    assert few == rows("data.max_train_rows=20", "method=head")  # the same for every method
    assert few[1] != rows("data.max_train_rows=20", "train.seed=1")[1]
    divided = ["data.path=null", f"data.train={data / 'train.csv'}", "data.validation_share=0.5"]
    assert rows("data.max_train_rows=20", *divided)[0] == 20
    assert red("train", recipe, "data.max_train_rows=20", "--json").json["training"]["steps"] == 4
    assert red("check", recipe, "data.max_train_rows=0").code == 2


def test_the_papers_figure_is_shown_only_with_the_papers_method(red, recipe: Path, tmp_path: Path) -> None:
    paper = "paper={model: bert, table: '1', score: 61.0}"
    assert red("train", recipe, paper, "method=head", "--json").json["paper"] is None
    assert "61.0" not in red("eval", tmp_path / "run").out
    assert red("train", recipe, paper, f"output.dir={tmp_path / 'red'}", "--json").json["paper"]["score"] == 61.0


# name -> (arguments, code, what the message contains)
FAULTS = {
    "no such method": (["method=lara"], "invalid-value", "nearest: lora"),
    "both places": (
        ["method=lora", "lora.positions=[ffn]", "lora.target_modules=x"], "conflicting-keys", "lora.target_modules: "
    ),
    "bad pattern": (["method=lora", "lora.target_modules=("], "invalid-value", "lora.target_modules: "),
    "nothing matches": (["method=lora", "lora.target_modules=x"], "unsupported-model", "lora.target_modules"),
    "no such position": (["method=ia3", "ia3.positions=[qkv]"], "unsupported-model", "'qkv'"),
    "norms": (["method=lora", "lora.positions=[ffn_norm]"], "unsupported-model", "method lora"),
    "rank of nothing": (["method=lora", "lora.rank=0"], "invalid-value", "lora.rank: "),
    "low precision": (["method=full", "model.dtype=bfloat16"], "conflicting-keys", "model.dtype: "),
    "quantised": (["method=bitfit", "model.quantization=int8"], "conflicting-keys", "method: "),
    "not auto": (["train.learning_rate=automatic"], "invalid-value", "train.learning_rate: "),
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    cases(FAULTS, dict.fromkeys(("nothing matches", "no such position", "norms"), "baselines")),
)
def test_faults(red, recipe: Path, tmp_path: Path, arguments: list[str], code: str, fact: str) -> None:
    outcome = red("train", recipe, *arguments, "--json")
    error = outcome.json["error"]
    assert outcome.code == 2
    assert code in [fault["code"] for fault in error.get("faults", [error])]
    assert fact in error["message"]
    assert len(outcome.err.splitlines()) <= 4
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "check"])
def test_a_missing_package_is_named_with_its_extra(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else real(name, *rest))
    error = red(command, recipe, "method=lora", "--json").json["error"]
    assert error["code"] == "missing-dependency"
    assert "pip install 'red-finetune[baselines]'" in error["hint"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", methods(NOT_RED))
def test_what_a_folder_of_a_method_cannot_do(red, trained: Callable[[str], Path], tmp_path: Path, method: str) -> None:
    run = trained(method)
    for folder in (run, run / "adapter"):
        error = red("export", folder, "-o", tmp_path / "merged", "--json").json["error"]
        assert error["code"] == "unsupported-method"
        assert f"method {method}" in error["message"]
    assert red("eval", run, "method=red").code == 2
    other = make_base(tmp_path / "other", num_hidden_layers=2)
    error = red("eval", run, f"model.name_or_path={other}", "--json").json["error"]
    assert error["code"] == "base-mismatch"
    assert "num_hidden_layers 3 (here 2)" in error["message"]
    tensors = next((run / "adapter").glob("*.safetensors"))
    complete = tensors.read_bytes()
    for content in (b"garbage", complete[:-4] + b"\1\1\1\1", None):
        tensors.unlink() if content is None else tensors.write_bytes(content)
        outcome = red("eval", run, "--json")
        assert (outcome.code, outcome.json["error"]["code"]) == (2, "file-damaged")
        assert tensors.name in outcome.err
    (run / "adapter" / "trained.json").write_text("{}")
    error = red("eval", run, "--json").json["error"]
    assert (error["code"], "key 'method'" in error["message"]) == ("file-damaged", True)
