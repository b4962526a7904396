"""`red export`: what it writes, its sources, and its errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from red_cli import RedConfig, attach, save_adapter
from red_cli.base_model.digest import take_digest
from red_cli.base_model.stored_tensor import from_float32, to_float32
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE, read_adapter_config
from red_cli.edit.attached_adapters import active_adapter, edits
from red_cli.recipe.sections import Model
from tests.export.test_bias_placement import load
from tests.tiny import first_output, make_data, random_vectors, tiny_inputs, tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def prepare(folder: Path, model_type: str = "llama", shard: str = "50GB", **changes: object) -> torch.Tensor:
    """Write a base and an adapter with a digest, as a run does; return the adapter's logits."""
    model = tiny_model(model_type, **changes)
    model.save_pretrained(folder / "base", max_shard_size=shard)
    (folder / "base" / "generation_config.json").write_text('{"max_length": 7}')
    (folder / "base" / "chat_template.jinja").write_text("{{ messages }}")
    model = type(model).from_pretrained(folder / "base").eval()
    attach(model, RedConfig())
    random_vectors(model)
    record = take_digest(Model(name_or_path=str(folder / "base")), "red", active_adapter(model).paths)
    assert record.digest is not None
    save_adapter(model, folder / "adapter", base_digest=record.digest)
    return first_output(model, tiny_inputs(model_type)).detach()


def assert_exported(folder: Path, expected: torch.Tensor, model_type: str = "llama") -> None:
    with torch.inference_mode():
        found = first_output(load(folder), tiny_inputs(model_type))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("shard", ["50GB", "20KB"])
def test_what_is_not_edited_is_copied_byte_for_byte(red, tmp_path: Path, shard: str) -> None:
    expected = prepare(tmp_path, shard=shard)
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["equal_answers"] == 1
    assert outcome.json["checked_on"] == "rows of random tokens"
    merged, base = tmp_path / "merged", tmp_path / "base"
    assert_exported(merged, expected)
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert (len(shards) > 2) == (shard == "20KB")
    assert sorted(path.name for path in merged.glob("*.safetensors")) == shards
    for name in shards:
        before, after = load_file(base / name), load_file(merged / name)
        assert all(torch.equal(after[key], before[key]) for key in before if "down_proj" not in key)
        added = {key for key in after if key not in before}
        assert {key.rsplit(".", 2)[1] for key in added} <= {"gate_proj", "up_proj", "down_proj"}
    for name in ("generation_config.json", "chat_template.jinja"):
        assert (merged / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.parametrize("sharded", [False, True])
def test_a_base_of_pickles(red, tmp_path: Path, sharded: bool) -> None:
    expected = prepare(tmp_path, "gpt2")
    base = tmp_path / "base"
    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]  # shared, as such files often have it
    if sharded:
        names = sorted(tensors)
        parts = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
        for file, keys in parts.items():
            torch.save({key: tensors[key] for key in keys}, base / file)
        places = {key: file for file, keys in parts.items() for key in keys}
        (base / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    else:
        torch.save(tensors, base / "pytorch_model.bin")
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged")
    assert outcome.code == 0, outcome.err
    with torch.inference_mode():
        model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(first_output(model, tiny_inputs("gpt2")), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype(red, tmp_path: Path, dtype: str) -> None:
    expected = prepare(tmp_path)
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--dtype", dtype, "--json")
    assert outcome.code == 0, outcome.err
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.dtype == getattr(torch, dtype)
    error = (first_output(model.float().eval(), tiny_inputs("llama")) - expected).abs().max() / expected.abs().max()
    assert error < {"float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2}[dtype]
    assert (error > 1e-5) == (dtype != "float32")


@pytest.mark.parametrize(("name", "dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)])
def test_rounding_is_torchs(name: str, dtype: torch.dtype) -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 10
    ties = torch.tensor([1.00390625, 1.01171875, -1.00390625, 0.0, -0.0, 6e4])  # half-way between two of bfloat16
    values = torch.cat([values, ties])
    stored = values.to(dtype)
    ours = from_float32(values.numpy(), name)
    assert ours.tobytes() == stored.view(torch.int16 if dtype != torch.float32 else torch.int32).numpy().tobytes()
    assert np.array_equal(to_float32(ours.tobytes(), name), stored.float().numpy())


def test_an_adapter_to_be_shared(red, tmp_path: Path) -> None:
    prepare(tmp_path)
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "shared", "--format", "adapter")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {CONFIG_FILE, WEIGHTS_FILE, "README.md"}
    assert red("export", tmp_path / "shared", "-o", tmp_path / "merged").code == 0


def cache(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """Copy the base to a local cache of the Hub, as if it had been downloaded."""
    snapshot = folder / "cache" / f"models--{name.replace('/', '--')}" / "snapshots" / COMMIT
    shutil.copytree(folder / "base", snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "cache"))
    return snapshot


def test_a_base_in_the_cache(red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prepare(tmp_path, shard="20KB")
    snapshot = cache(tmp_path, monkeypatch, "some/llama")
    assert red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--base", "some/llama").code == 0
    assert_exported(tmp_path / "merged", expected)
    red("export", tmp_path / "adapter", "-o", tmp_path / "a", "--format", "adapter", "--base", "some/llama")
    pinned = read_adapter_config(tmp_path / "a")
    assert (pinned.base_model_name_or_path, pinned.revision) == ("some/llama", COMMIT)
    sorted(snapshot.glob("*.safetensors"))[1].unlink()  # now only a part of it is there, and there is no network
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "b", "--base", "some/llama", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "base-not-found")
    assert "some/llama" in outcome.err


class FakeHub:
    """The part of the Hub's client that `red export --push-to-hub` calls."""

    calls: list[tuple]
    refuses: str | None = None

    def create_repo(self, repository: str, **options: object) -> str:
        self.calls.append(("create", repository, options["private"]))
        return f"https://hub.example/{repository}"

    def upload_folder(self, *, folder_path: Path, repo_id: str, commit_message: str) -> None:
        if self.refuses:
            raise OSError(self.refuses)
        self.calls.append(("upload", repo_id, sorted(path.name for path in Path(folder_path).iterdir())))


def test_push_to_hub(red, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    monkeypatch.setattr(FakeHub, "calls", [], raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    arguments = ["export", tmp_path / "adapter", "--no-verify", "--push-to-hub"]
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert red(*arguments, "me/mine", "-o", tmp_path / "a").code == 2
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    assert red(*arguments, "not a name", "-o", tmp_path / "a").code == 2
    assert not (tmp_path / "a").exists()
    outcome = red(*arguments, "me/mine", "-o", tmp_path / "a", "--json")
    assert outcome.json["pushed_to"] == "https://hub.example/me/mine"
    assert FakeHub.calls[0] == ("create", "me/mine", True)
    assert {"model.safetensors", "config.json", "README.md"} <= set(FakeHub.calls[1][2])
    monkeypatch.setattr(FakeHub, "refuses", "503 Service Unavailable")
    outcome = red(*arguments, "me/mine", "-o", tmp_path / "b", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (1, "unavailable")
    assert "503" in outcome.err
    assert (tmp_path / "b" / "config.json").is_file()


def first_shard(folder: Path) -> Path:
    return sorted((folder / "base").glob("*.safetensors"))[0]


def flip_weight(folder: Path) -> None:
    for file in (folder / "base").glob("*.safetensors"):
        tensors = load_file(file)
        for key in tensors:
            if "layers.1.mlp.down_proj" in key:
                tensors[key][3, 3] += 1e-3
        save_file(tensors, file, metadata={"format": "pt"})


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def put_nan(folder: Path) -> None:
    tensors = load_file(folder / "adapter" / WEIGHTS_FILE)
    tensors[next(iter(tensors))][0] = float("nan")
    save_file(tensors, folder / "adapter" / WEIGHTS_FILE)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


# what is done -> code of the error, a fact in its message
FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no adapter": (lambda folder: shutil.rmtree(folder / "adapter"), "folder-not-found", "/adapter"),
    "weights changed": (flip_weight, "base-changed", "the weights of"),
    "configuration changed": (
        lambda folder: edit_json(folder / "base" / "config.json", rms_norm_eps=1e-3),
        "base-changed",
        "the configuration of",
    ),
    "another base": (
        lambda folder: edit_json(folder / "base" / "config.json", vocab_size=24),
        "base-mismatch",
        "vocab_size 23 (here 24)",
    ),
    "shard missing": (lambda folder: first_shard(folder).unlink(), "file-not-found", "model-00001-of-"),
    "shard cut short": (lambda folder: cut(first_shard(folder)), "file-damaged", "model-00001-of-"),
    "shard is no shard": (
        lambda folder: first_shard(folder).write_text("nothing here"),
        "file-damaged",
        "model-00001-of-",
    ),
    "index names what is not there": (
        lambda folder: edit_json(
            folder / "base" / "model.safetensors.index.json",
            weight_map={"model.norm.weights": first_shard(folder).name},
        ),
        "file-damaged",
        "model.norm.weights",
    ),
    "index leads outside": (
        lambda folder: edit_json(
            folder / "base" / "model.safetensors.index.json", weight_map={"model.norm.weight": "../x.safetensors"}
        ),
        "path-outside-folder",
        "../x.safetensors",
    ),
    "not a number": (put_nan, "file-damaged", "down_proj.red."),
    "adapter cut short": (lambda folder: cut(folder / "adapter" / WEIGHTS_FILE), "file-damaged", WEIGHTS_FILE),
    "base gone": (lambda folder: shutil.rmtree(folder / "base"), "base-not-found", "/base"),
}


@pytest.mark.parametrize(("damage", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(red, tmp_path: Path, damage: Callable[[Path], object], code: str, fact: str) -> None:
    prepare(tmp_path, shard="20KB")
    damage(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code)
    assert fact in outcome.json["error"]["message"]
    assert "Traceback" not in outcome.err
    assert {path.name for path in tmp_path.iterdir()} == before


def test_the_check_without_the_tasks_data(red, recipe: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    red("train", recipe, f"data.path={data}")
    shutil.move(data, tmp_path / "moved")
    outcome = red("export", tmp_path / "run", "-o", tmp_path / "a", "--json")
    assert outcome.json["checked_on"] == "rows of random tokens"
    assert str(data) in outcome.err
    outcome = red("export", tmp_path / "run", f"data.path={tmp_path / 'moved'}", "-o", tmp_path / "b", "--json")
    assert outcome.json["checked_on"] == "examples of the task"
    assert red("export", tmp_path / "run", "train.seed=2", "-o", tmp_path / "c").code == 2


def test_runs_without_an_adapter(red, finished: Path, tmp_path: Path, base: Path) -> None:
    shutil.rmtree(finished / "adapter")
    outcome = red("export", finished, "-o", tmp_path / "merged", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "run-unfinished")
    outcome = red("export", base, "-o", tmp_path / "merged", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "not-a-run")
    assert not (tmp_path / "merged").exists()


def test_too_little_space_is_an_error_before_the_first_byte(red, tmp_path: Path, monkeypatch) -> None:
    prepare(tmp_path)
    monkeypatch.setattr("red_cli.export.checks.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1000))
    monkeypatch.setattr(
        "red_cli.export.exported_model.write_shards", lambda *arguments: pytest.fail("it began to write")
    )
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "deep" / "merged", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "disk-full")
    assert str(tmp_path / "deep" / "merged") in outcome.err


@pytest.mark.parametrize(
    "where", ["red_cli.export.stream.to_float32", "red_cli.export.exported_model.copy_auxiliary_files"]
)
def test_an_interrupted_export_leaves_nothing(red, tmp_path: Path, monkeypatch, where: str) -> None:
    prepare(tmp_path)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    assert red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--no-verify").code == 130
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}


def test_what_a_killed_export_left_is_removed_by_the_next(red, tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / ".merged.999999999.tmp").mkdir()
    assert red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--no-verify").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter", "merged"}


def test_numbers_that_a_dtype_cannot_hold(red, tmp_path: Path) -> None:
    prepare(tmp_path)
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    attach(model, RedConfig())
    for _, edit in edits(model):
        edit.scale.data.fill_(1e6)
    save_adapter(model, tmp_path / "large")
    assert max(tensor.abs().max() for tensor in tensors.values()) > 0.1
    outcome = red("export", tmp_path / "large", "-o", tmp_path / "merged", "--dtype", "float16", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "value-not-finite")
    assert "float16" in outcome.err
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("model_type", ["llama", "t5", "bert"])
def test_a_check_that_reads_the_models_from_disk(tmp_path: Path, monkeypatch, model_type: str, red) -> None:
    prepare(tmp_path, model_type)
    form = "code" if model_type == "t5" else "merged"
    arguments = ["export", tmp_path / "adapter", "--format", form, "--json"]
    whole = red(*arguments, "-o", tmp_path / "a").json
    monkeypatch.setattr("red_cli.export.verify._MEMORY_SHARE", 0.0)
    outcome = red(*arguments, "-o", tmp_path / "b")
    assert outcome.code == 0, outcome.err
    if outcome.json["examples"] == 0:
        pytest.skip(outcome.err)
    assert outcome.json["equal_answers"] == 1
    assert outcome.json["largest_difference"] == pytest.approx(whole["largest_difference"], abs=1e-6)


def test_libraries_too_old_for_a_check_from_disk(tmp_path: Path, monkeypatch, red) -> None:
    prepare(tmp_path, "bert")
    monkeypatch.setattr("red_cli.export.verify._MEMORY_SHARE", 0.0)
    monkeypatch.setattr("red_cli.export.verify._READ_FROM_DISK", {"transformers": "99.0", "accelerate": "0.1"})
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["examples"] == 0
    assert "transformers 99.0" in outcome.err
    assert (tmp_path / "merged" / "model.safetensors").exists()


def test_a_base_with_quantised_weights_is_refused(red, tmp_path: Path) -> None:
    prepare(tmp_path)
    config = json.loads((tmp_path / "adapter" / CONFIG_FILE).read_text())
    (tmp_path / "adapter" / CONFIG_FILE).write_text(json.dumps({**config, "base_digest": None}))
    file = tmp_path / "base" / "model.safetensors"
    tensors = load_file(file)
    save_file({key: t.to(torch.int8) if "down_proj" in key else t for key, t in tensors.items()}, file)
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "unsupported-file")
    assert "down_proj" in outcome.err


def rename_norms(folder: Path) -> None:
    """Name the norms as the first BERT checkpoints do."""
    file = folder / "base" / "model.safetensors"
    tensors = load_file(file)
    names = {key: key.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta") for key in tensors}
    save_file({names[key]: tensor + 0.1 * ("Norm" in key) for key, tensor in tensors.items()}, file)


@pytest.mark.parametrize("with_head", [True, False])
def test_norms_with_old_names(red, tmp_path: Path, with_head: bool) -> None:
    tiny_model("bert").save_pretrained(tmp_path / "base")
    rename_norms(tmp_path)
    model = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "base").eval()
    attach(model, RedConfig(positions=["ffn", "ffn_norm"]), train_head=with_head)
    random_vectors(model)
    save_adapter(model, tmp_path / "adapter")
    expected = first_output(model, tiny_inputs()).detach()
    assert red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--no-verify").code == 0
    with torch.inference_mode():
        loaded = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(first_output(loaded, tiny_inputs()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
@pytest.mark.parametrize("headless", [True, False])
def test_the_adapters_class_decides(red, tmp_path: Path, model_type: str, headless: bool) -> None:
    """A base saved without its language-model head, or an adapter on the bare model."""
    model = tiny_model(model_type, tie_word_embeddings=True)
    (model.base_model if headless else model).save_pretrained(tmp_path / "base")
    kind = type(model) if headless else type(model.base_model)
    edited = kind.from_pretrained(tmp_path / "base").eval()
    attach(edited, RedConfig())
    random_vectors(edited)
    save_adapter(edited, tmp_path / "adapter")
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["architectures"] == [kind.__name__]


@pytest.mark.parametrize(
    ("model_type", "pattern"), [("llama", r".*input_layernorm"), ("t5", r".*SelfAttention\.q|.*0.layer_norm")]
)
def test_code_carries_the_bias_of_a_norm(red, tmp_path: Path, model_type: str, pattern: str) -> None:
    tiny_model(model_type).save_pretrained(tmp_path / "base")
    model = type(tiny_model(model_type)).from_pretrained(tmp_path / "base").eval()
    attach(model, RedConfig(target_modules=pattern))
    random_vectors(model)
    save_adapter(model, tmp_path / "adapter")
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "code", "--format", "code", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["largest_difference"] < 1e-4


def test_a_norm_that_adds_one_to_its_weight_is_refused(red, tmp_path: Path) -> None:
    tiny_model("gemma").save_pretrained(tmp_path / "base")
    model = transformers.GemmaForCausalLM.from_pretrained(tmp_path / "base")
    attach(model, RedConfig(target_modules=r".*input_layernorm", components=["scale"]))
    save_adapter(model, tmp_path / "adapter")
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--no-verify", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "unsupported-model")
    assert "1 + weight" in outcome.err


def test_the_bases_own_code_is_not_copied(red, tmp_path: Path) -> None:
    expected = prepare(tmp_path)
    edit_json(tmp_path / "base" / "config.json", auto_map={"AutoModelForCausalLM": "other/repository--modeling.X"})
    config = json.loads((tmp_path / "adapter" / CONFIG_FILE).read_text())
    (tmp_path / "adapter" / CONFIG_FILE).write_text(json.dumps({**config, "base_digest": None}))
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged")
    assert outcome.code == 0, outcome.err
    assert "auto_map" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    assert_exported(tmp_path / "merged", expected)


def test_empty_tensors_and_a_stale_index(red, tmp_path: Path) -> None:
    expected = prepare(tmp_path)
    file = tmp_path / "base" / "model.safetensors"
    save_file({**load_file(file), "a.empty": torch.zeros(5, 0), "zz.empty": torch.zeros(0)}, file)
    (tmp_path / "base" / "model.safetensors.index.json").write_text('{"weight_map": {"x": "gone.safetensors"}}')
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--no-verify", "--dtype", "bfloat16")
    assert outcome.code == 0, outcome.err
    names = load_file(tmp_path / "merged" / "model.safetensors")
    assert names["a.empty"].shape == (5, 0)
    assert expected.isfinite().all()


@pytest.mark.parametrize("place", ["base", "base/inside"])
def test_the_bases_folder_is_refused_as_output(red, tmp_path: Path, place: str) -> None:
    prepare(tmp_path)
    before = sorted(path.name for path in (tmp_path / "base").iterdir())
    outcome = red("export", tmp_path / "adapter", "-o", tmp_path / place, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "output-exists")
    assert str(tmp_path / "base") in outcome.err
    assert before == sorted(path.name for path in (tmp_path / "base").iterdir())


def test_sigterm_cleans_up(red, tmp_path: Path, monkeypatch) -> None:
    prepare(tmp_path)
    monkeypatch.setattr(
        "red_cli.export.exported_model.copy_auxiliary_files", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert red("export", tmp_path / "adapter", "-o", tmp_path / "merged", "--no-verify").code == 130
    assert {path.name for path in tmp_path.iterdir()} == {"base", "adapter"}
