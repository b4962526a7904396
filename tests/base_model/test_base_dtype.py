"""What `model.dtype: auto` stands for, and that a run keeps what it stood for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    NotASafetensorsRepoError,
    OfflineModeIsEnabled,
    SafetensorsParsingError,
)
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PretrainedConfig

from red_cli.base_model import base_dtype as dtypes
from red_cli.base_model.base_dtype import BaseDtype, recipe_dtype
from red_cli.base_model.load import load_base, load_skeleton
from red_cli.edit.model_kinds import DECODER, SEQUENCE_CLASSIFIER
from red_cli.errors import UserError
from red_cli.recipe.load import load_recipe
from red_cli.recipe.schema import with_dtype
from red_cli.recipe.sections import Model
from red_cli.train.resume import changed_keys, with_recorded_choices
from tests.tiny import DECODERS, ENCODERS, make_base

CPU, BF16_CPU, GPU = "cpu", "cpu with bfloat16", "cuda"
AS_FILES, NAMED = "as its files", None
AS_CONFIG, UNKNOWN = "as its config.json", "since neither its files nor its config.json tell it"
INSTEAD_ON = "instead of its files' {}, for this {}"
INSTEAD = INSTEAD_ON.format("{}", "CPU")
# dtypes of the weights with numbers of each, dtype in config.json, device, overrides -> dtype, why
CASES: dict[str, tuple[dict[str, int], str | None, str, list[str], str, str | None]] = {
    "float32": ({"float32": 8}, None, GPU, [], "float32", AS_FILES),
    "bfloat16": ({"bfloat16": 8}, "bfloat16", GPU, [], "bfloat16", AS_FILES),
    "float16": ({"float16": 8}, "float16", GPU, [], "float16", AS_FILES),
    "bfloat16 on a CPU": ({"bfloat16": 8}, None, CPU, [], "float32", INSTEAD.format("bfloat16")),
    "bfloat16 on a CPU that has it": ({"bfloat16": 8}, None, BF16_CPU, [], "bfloat16", AS_FILES),
    "bfloat16 on a GPU without it": ({"bfloat16": 8}, None, "xpu", [], "float32", INSTEAD_ON.format("bfloat16", "GPU")),
    "float16 on Apple's GPU": ({"float16": 8}, None, "mps", [], "float32", INSTEAD_ON.format("float16", "GPU")),
    "float16 on an HPU": ({"float16": 8}, None, "hpu", [], "float32", INSTEAD_ON.format("float16", "HPU")),
    "float16 on a CPU": ({"float16": 8}, None, BF16_CPU, [], "float32", INSTEAD.format("float16")),
    "the files, not config.json": ({"float32": 8}, "float16", GPU, [], "float32", AS_FILES),
    "most numbers": ({"float32": 6, "bfloat16": 8, "int64": 90}, "float32", GPU, [], "bfloat16", AS_FILES),
    "float64": ({"float64": 8}, None, GPU, [], "float32", AS_FILES),
    "no weights": ({}, "bfloat16", GPU, [], "bfloat16", AS_CONFIG),
    "no weights, float32": ({}, "float32", GPU, [], "float32", AS_CONFIG),
    "no weights on a CPU": ({}, "float16", CPU, [], "float32", "instead of its config.json's float16, for this CPU"),
    "no floats": ({"int8": 9}, "bfloat16", GPU, [], "bfloat16", AS_CONFIG),
    "nothing known": ({}, None, GPU, [], "float32", UNKNOWN),
    "full": ({"bfloat16": 8}, None, GPU, ["method=full"], "float32", "as method full trains it"),
    "bitfit": ({"bfloat16": 8}, None, GPU, ["method=bitfit"], "float32", "as method bitfit trains it"),
    "named": ({"bfloat16": 8}, None, CPU, ["model.dtype=float16"], "float16", NAMED),
}


def on_device(device: str, patch: pytest.MonkeyPatch) -> None:
    """Have the choice of a dtype see this device."""
    patch.setattr(dtypes, "chosen_device", lambda: torch.device(device.partition(" ")[0]))
    patch.setattr("red_cli.distributed.device.prefers_bf16", lambda device: device.type == "cuda")
    patch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": device == BF16_CPU}, raising=False)


@pytest.mark.parametrize("case", CASES)
def test_the_dtype_of_a_base(case: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, configured, device, overrides, dtype, why = CASES[case]
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    if numbers:
        tensors = {name: torch.zeros(count, dtype=getattr(torch, name)) for name, count in numbers.items()}
        save_file(tensors, folder / "model.safetensors")
    on_device(device, monkeypatch)
    loaded = load_recipe(str(recipe), overrides=[f"model.name_or_path={folder}", *overrides]).recipe
    assert recipe_dtype(loaded, PretrainedConfig(dtype=configured)) == BaseDtype(dtype, why)


def test_the_headers_on_the_hub_tell_the_dtype_before_a_download(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"a": ("BF16", [30, 30]), "b": ("F32", [8]), "c": ("I64", [1000]), "d": ("F32", [])}
    stored = {name: SimpleNamespace(dtype=dtype, shape=shape) for name, (dtype, shape) in tensors.items()}
    headers = SimpleNamespace(files_metadata={"model.safetensors": SimpleNamespace(tensors=stored)})
    monkeypatch.setattr("huggingface_hub.HfApi.get_safetensors_metadata", lambda *_, **__: headers)
    on_device(GPU, monkeypatch)
    loaded = load_recipe(str(recipe), overrides=["model.name_or_path=nobody/nothing"]).recipe
    assert recipe_dtype(loaded, PretrainedConfig(dtype="float32")).name == "bfloat16"


# what asking the Hub for headers raises -> whether config.json decides instead
HUB_ERRORS: dict[str, tuple[Exception, bool]] = {
    "no safetensors": (NotASafetensorsRepoError("only .bin files"), True),
    "a damaged header": (SafetensorsParsingError("no length"), True),
    "offline": (OfflineModeIsEnabled("offline"), True),
    "too many requests": (HfHubHTTPError("429", response=MagicMock()), True),
    "no answer": (HTTPError("timed out"), True),
    "a folder's name": (HFValidationError("a/b/c"), True),
    "a fault of another kind": (TypeError("a fault"), False),
}


@pytest.mark.parametrize("case", HUB_ERRORS)
def test_what_the_hub_does_not_tell(case: str, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error, falls_back = HUB_ERRORS[case]
    monkeypatch.setattr("huggingface_hub.HfApi.get_safetensors_metadata", MagicMock(side_effect=error))
    on_device(GPU, monkeypatch)
    loaded = load_recipe(str(recipe), overrides=["model.name_or_path=nobody/nothing"]).recipe
    if falls_back:
        assert recipe_dtype(loaded, PretrainedConfig(dtype="bfloat16")) == BaseDtype("bfloat16", AS_CONFIG)
        return
    with pytest.raises(type(error), match=str(error)):
        recipe_dtype(loaded, PretrainedConfig(dtype="bfloat16"))


def test_runs_agree_on_the_dtype_of_files_that_are_still_on_the_hub(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check downloads nothing and tells what config.json says; a training fetches the files first."""
    made = make_base(tmp_path / "made")
    file = made / "model.safetensors"
    weights = {name: tensor.bfloat16() for name, tensor in load_file(file).items()}
    file.unlink()
    snapshot = tmp_path / "cache" / "models--some--bert" / "snapshots" / ("0" * 40)
    shutil.copytree(made, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    fetched = []

    def download(name: str, revision: str | None) -> Path:
        fetched.append(name)
        torch.save(weights, snapshot / "pytorch_model.bin")
        return snapshot

    monkeypatch.setattr(dtypes, "base_folder", download)
    on_device(BF16_CPU, monkeypatch)
    options = ["model.name_or_path=some/bert", "train.max_steps=1", "eval.untuned=false"]
    checked = red("check", recipe, *options, "--json").json["plan"]["dtype"]
    assert (checked, fetched) == ({"name": "float32", "why": AS_CONFIG}, [])
    full = load_recipe(str(recipe), overrides=[*options, "method=full"]).recipe
    for loaded in (full, with_dtype(full, "float32")):
        dtypes.fetch_for_dtype(loaded, pytest.fail)  # takes float32, whatever the files have
    for run in ("first", "second"):
        trained = red("train", recipe, *options, f"output.dir={tmp_path / run}")
        assert trained.code == 0, trained.err
        assert "bfloat16 as its files" in trained.out
    assert fetched == ["some/bert"]


def test_a_base_that_cannot_be_fetched(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    loaded = load_recipe(str(recipe), overrides=["model.name_or_path=nobody/nothing"]).recipe
    told: list[str] = []
    with pytest.raises(UserError, match="nobody/nothing") as caught:
        dtypes.fetch_for_dtype(loaded, told.append)
    assert told == ["fetching the base"]
    assert "model.name_or_path=<folder>" in str(caught.value.hint)


def test_a_run_keeps_its_dtype(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, run = make_base(tmp_path / "base"), tmp_path / "run"
    file = base / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    options = [f"model.name_or_path={base}", "train.max_steps=1"]
    on_device(BF16_CPU, monkeypatch)
    trained = red("train", recipe, *options)
    assert trained.code == 0, trained.err
    assert "bfloat16 as its files" in trained.out
    now, recorded = load_recipe(str(recipe), overrides=options), load_recipe(str(run / "recipe.yaml"))
    assert recorded.recipe.model.dtype == "bfloat16"
    assert not changed_keys(recorded.recipe, now.recipe)
    resumed = with_recorded_choices(now, next((run / "checkpoints").iterdir())).recipe
    on_device(CPU, monkeypatch)
    assert recipe_dtype(resumed, PretrainedConfig()).name == "bfloat16"

    from red_cli.runs import load_opened

    load, dtypes_loaded = load_opened.load_base, []

    def noting(model, *arguments):
        dtypes_loaded.append(model.dtype)
        return load(model, *arguments)

    monkeypatch.setattr(load_opened, "load_base", noting)
    assert red("eval", run).code == 0
    # Earlier versions recorded the default of their time
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("dtype: bfloat16", "dtype: float32"))
    on_device(GPU, monkeypatch)
    assert red("eval", run).code == 0
    assert dtypes_loaded == ["bfloat16", "float32"]
    assert not changed_keys(load_recipe(str(run / "recipe.yaml")).recipe, now.recipe)


# architecture -> dtype of the files, dtype that is loaded, whether all of it stays in the files, a part or nothing
MAPPED: dict[str, tuple[str, str, str, str]] = {
    "float32": ("bert", "float32", "float32", "all"),
    "bfloat16": ("bert", "bfloat16", "bfloat16", "all"),
    "converted": ("bert", "bfloat16", "float32", "nothing"),
    "float64, which is loaded as float32": ("bert", "float64", "float32", "nothing"),
    "one tensor for two parameters": ("gpt2", "float32", "float32", "all"),
    "experts that are merged": ("mixtral", "bfloat16", "bfloat16", "a part"),
    "small experts that are merged": ("qwen3_moe", "float32", "float32", "a part"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize("case", MAPPED)
def test_what_stays_in_the_files_of_a_base(case: str, tmp_path: Path) -> None:
    """The plan's numbers are those of the parameters that lie in a mapped file, once the base is loaded."""
    architecture, stored, loaded, share = MAPPED[case]
    kind = SEQUENCE_CLASSIFIER if architecture in ENCODERS else DECODER
    config = AutoConfig.for_model(architecture, **(ENCODERS | DECODERS)[architecture])
    kind.auto_class.from_config(config, dtype=getattr(torch, stored)).save_pretrained(tmp_path)
    settings = Model(name_or_path=str(tmp_path), dtype=loaded)
    planned = dtypes.mapped_numbers(settings, config, load_skeleton(config, settings, kind))
    model, _ = load_base(settings, config, kind, 1)
    ends = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()
            if str(tmp_path) in line]  # fmt: skip
    files = [range(int(start, 16), int(end, 16)) for start, end in ends]
    sizes = {True: 0, False: 0}
    for parameter in model.parameters():
        sizes[any(parameter.data_ptr() in file for file in files)] += parameter.numel()
    assert planned == sizes[True]
    assert share == ("all" if not sizes[False] else "a part" if sizes[True] else "nothing")
    quantised = Model(name_or_path=str(tmp_path), dtype=loaded, quantization="int8")
    assert dtypes.mapped_numbers(quantised, config, model) == 0
