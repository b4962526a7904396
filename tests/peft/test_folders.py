"""Adapter folders and configurations that PEFT must refuse, and those that it may read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import red_cli
from red_cli import attach
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE, read_adapter_config
from tests.extras import has_extra
from tests.failures import fails
from tests.peft.conftest import Row, fill
from tests.tiny import LAYERS, first_output, tiny_inputs, tiny_model

if has_extra("baselines"):
    from peft import AutoPeftModel, PeftConfig, PeftModel, get_peft_model

    from red_cli.peft import PeftEdit, RedConfig


@pytest.fixture
def row(make_row: Callable[[str], Row]) -> Row:
    return make_row("llama")


@pytest.fixture
def adapter(row: Row, tmp_path: Path) -> Path:
    return Path(shutil.copytree(row.adapter, tmp_path / "adapter"))


def change(folder: Path, **values: object) -> None:
    content = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(content | values))


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[-2] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)


def drop_a_key(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors.popitem()
    save_file(tensors, folder / WEIGHTS_FILE)


DAMAGES = {
    "a flipped bit": (flip_a_bit, "file-damaged", "digest"),
    "a missing key": (drop_a_key, "file-damaged", "missing"),
    "a wrong record": (lambda folder: change(folder, base={"model_type": 3}), "file-damaged", "base"),
    "other modules": (lambda folder: change(folder, target_modules=["lm_head"]), "base-mismatch", "lm_head"),
    "no record": (lambda folder: change(folder, red=None), "file-damaged", "'red'"),
    "no weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "file-damaged", WEIGHTS_FILE),
}


@pytest.mark.parametrize(("damage", "code", "fact"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_folders_are_refused(row: Row, adapter: Path, damage: Callable, code: str, fact: str) -> None:
    damage(adapter)
    base = row.load()
    with fails(code, fact):
        PeftModel.from_pretrained(base, str(adapter))
    assert torch.equal(row.outputs(base), row.plain)
    assert not [module for module in base.modules() if isinstance(module, PeftEdit)]


def test_old_folders_stay_readable(row: Row, adapter: Path) -> None:
    """Files of version 0.1 lack some keys."""
    content = json.loads((adapter / CONFIG_FILE).read_text())
    for key in ("architecture", "revision", "base_digest"):
        del content[key]
    (adapter / CONFIG_FILE).write_text(json.dumps(content))
    assert torch.equal(row.outputs(PeftModel.from_pretrained(row.load(), str(adapter))), row.edited)


def test_folders_of_the_hub_are_checked(row: Row, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of weights is found in the cache, and compared with its digest before the model is touched."""

    def download(name: str, file: str, **_: object) -> str:
        assert name == "someone/adapter"
        return str(adapter / file)

    for module in ("peft.config", "peft.utils.save_and_load", "red_cli.peft.config"):
        monkeypatch.setattr(f"{module}.hf_hub_download", download)
    monkeypatch.setattr("peft.utils.save_and_load.file_exists", lambda **_: True)
    assert torch.equal(row.outputs(PeftModel.from_pretrained(row.load(), "someone/adapter")), row.edited)
    flip_a_bit(adapter)
    with fails("file-damaged", "digest"):
        PeftModel.from_pretrained(row.load(), "someone/adapter")


def test_a_head_for_other_labels_is_named(make_row: Callable[[str], Row]) -> None:
    row = make_row("bert")
    with fails("labels-mismatch", "num_labels=3"):
        PeftModel.from_pretrained(row.load(num_labels=2, ignore_mismatched_sizes=True), str(row.adapter))


def test_another_base_is_refused(row: Row) -> None:
    for changes in ({"vocab_size": 40}, {"num_hidden_layers": LAYERS - 1}):
        with fails("base-mismatch", "belongs to another base"):
            PeftModel.from_pretrained(tiny_model("llama", **changes), str(row.adapter))


def test_a_changed_base_is_refused(red: Callable, recipe: Path, finished: Path, base: Path, tmp_path: Path) -> None:
    """The digest of a run's base is compared, as `red_cli.load` does; the run itself loads."""
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(base, tmp_path / "changed")
    weights = load_file(tmp_path / "changed" / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][0, 0] += 1
    save_file(weights, tmp_path / "changed" / "model.safetensors", metadata={"format": "pt"})
    changed, same = (
        AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
        for folder in (tmp_path / "changed", base)
    )
    with fails("base-changed", "weights"):
        PeftModel.from_pretrained(changed, str(finished / "adapter"))
    model = PeftModel.from_pretrained(same, str(finished / "adapter"))
    reference = red_cli.load(finished / "adapter")
    ids = {"input_ids": torch.arange(5, 15).view(2, 5)}
    with torch.inference_mode():
        assert torch.equal(model(**ids).logits, reference(**ids).logits)
    model.save_pretrained(tmp_path / "again")
    assert read_adapter_config(tmp_path / "again").base_digest == read_adapter_config(finished / "adapter").base_digest
    outcomes = [
        red("predict", tmp_path / "again", "--text", "a good film", "--json"),
        red("predict", finished, "--text", "a good film", "--json"),
    ]
    assert [outcome.json["predictions"] for outcome in outcomes] == [outcomes[0].json["predictions"]] * 2
    shutil.copytree(tmp_path / "again", finished / "adapter", dirs_exist_ok=True)
    assert red("eval", finished, "--json").code == 0
    assert model.merge_and_unload().config.id2label == {0: "negative", 1: "positive"}


def test_a_folder_of_peft_is_exported(red: Callable, row: Row, tmp_path: Path) -> None:
    model = get_peft_model(row.load(), RedConfig(task_type=row.task, layers="1:"))
    fill(model)
    expected = row.outputs(model)
    model.save_pretrained(tmp_path / "adapter")
    outcome = red("export", tmp_path / "adapter", "--output", tmp_path / "model", "--json")
    assert outcome.code == 0, outcome.err
    exported = row.kind.from_pretrained(tmp_path / "model")
    limit = 1e-5 * expected.abs().max()
    assert (row.outputs(exported) - expected).abs().max() <= limit
    merged = model.merge_and_unload()
    assert merged.config.mlp_bias == exported.config.mlp_bias is True
    assert merged.state_dict().keys() == exported.state_dict().keys()


OPTIONS = {
    "red++": ({"positions": "red++"}, 5 * LAYERS),
    "layers": ({"layers": [0, 2], "components": ["bias"]}, 2),
    "a pattern": ({"target_modules": r".*\.(up|gate)_proj"}, 2 * LAYERS),
    "ends of paths": ({"target_modules": ["q_proj", "mlp.down_proj"]}, 2 * LAYERS),
    "a set": ({"target_modules": {"o_proj"}}, LAYERS),
    "an open pattern": ({"target_modules": ".*down_proj.*"}, LAYERS),
}


@pytest.mark.parametrize(("options", "modules"), OPTIONS.values(), ids=OPTIONS)
def test_options(row: Row, tmp_path: Path, options: dict, modules: int) -> None:
    model = get_peft_model(row.load(), RedConfig(task_type=row.task, **options))
    fill(model)
    assert len({*model.base_model.targeted_module_names}) == modules
    model.save_pretrained(tmp_path)
    expected = row.outputs(model)
    assert not torch.equal(expected, row.plain)
    assert torch.equal(row.outputs(red_cli.load(tmp_path)), expected)
    assert torch.equal(row.outputs(PeftModel.from_pretrained(row.load(), str(tmp_path))), expected)
    assert len(read_adapter_config(tmp_path).target_modules) == modules
    model.add_adapter("second", RedConfig(task_type=row.task, **options))
    assert torch.equal(row.outputs(model), expected)
    assert len({*model.base_model.targeted_module_names}) == modules


@pytest.mark.parametrize("name", ["clip", "vit", "mixtral"])
def test_other_kinds_of_model(name: str, tmp_path: Path) -> None:
    """Without a task in PEFT; a mixture's blocks take scales alone."""
    options = {"components": ["scale"]} if name == "mixtral" else {}
    base = tiny_model(name)
    base.save_pretrained(tmp_path / "base")
    kind, inputs = type(base), tiny_inputs(name)
    model = get_peft_model(kind.from_pretrained(tmp_path / "base"), RedConfig(**options)).eval()
    fill(model)
    model.save_pretrained(tmp_path / "adapter")
    loaded = [red_cli.load(tmp_path / "adapter"), PeftModel.from_pretrained(base, str(tmp_path / "adapter"))]
    if name != "mixtral":
        loaded.append(AutoPeftModel.from_pretrained(str(tmp_path / "adapter")))
    with torch.inference_mode():
        expected = first_output(model, inputs)
        assert all(torch.equal(first_output(one, inputs), expected) for one in loaded)
        model.merge_and_unload().save_pretrained(tmp_path / "merged")
        merged = first_output(kind.from_pretrained(tmp_path / "merged"), inputs)
    assert (merged - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_configuration_alone_is_saved_and_read(tmp_path: Path) -> None:
    config = RedConfig(task_type="CAUSAL_LM", positions=["ffn", "attn"], layers="1:", modules_to_save=["lm_head"])
    config.save_pretrained(tmp_path)
    again = PeftConfig.from_pretrained(str(tmp_path))
    assert again == config


@pytest.mark.parametrize("wrong", [{"layers": "no"}, {"positions": ["nowhere"]}, {"components": []}], ids=str)
def test_wrong_options_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RedConfig(**wrong)


def test_modules_to_save(row: Row, tmp_path: Path) -> None:
    model = get_peft_model(row.load(), RedConfig(task_type=row.task, modules_to_save=["lm_head", "norm"]))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad and "red" not in name}
    assert len(trained) == 2 * LAYERS + 2
    with torch.no_grad():
        for name in trained:
            model.get_parameter(name).mul_(1.5)
    expected = row.outputs(model)
    with model.disable_adapter():
        assert torch.equal(row.outputs(model), row.plain)
    model.save_pretrained(tmp_path)
    assert len(read_adapter_config(tmp_path).head) == len(trained)
    assert torch.equal(row.outputs(red_cli.load(tmp_path)), expected)
    assert torch.equal(row.outputs(PeftModel.from_pretrained(row.load(), str(tmp_path))), expected)


def test_what_cannot_train_in_full_is_refused(row: Row) -> None:
    with fails("unknown-name", "lm_heads"):
        get_peft_model(row.load(), RedConfig(modules_to_save=["lm_head", "lm_heads"]))
    with fails("unsupported-model", "either edited or trained in full"):
        get_peft_model(row.load(), RedConfig(modules_to_save=["down_proj"]))
    tied = tiny_model("llama", tie_word_embeddings=True)
    with fails("unsupported-model", "share"):
        get_peft_model(tied, RedConfig(modules_to_save=["embed_tokens"]))
    with fails("unsupported-model", "not a model of transformers"):
        get_peft_model(torch.nn.Linear(2, 2), RedConfig())
    edited = row.load()
    attach(edited, red_cli.RedConfig())
    with fails("invalid-adapter-name"):
        get_peft_model(edited, RedConfig())
    model = get_peft_model(row.load(), RedConfig())
    with fails("invalid-adapter-name"):
        attach(model.get_base_model(), red_cli.RedConfig())


def test_an_adapter_of_a_merged_model_is_not_saved(row: Row, tmp_path: Path) -> None:
    merged = PeftModel.from_pretrained(row.load(), str(row.adapter)).merge_and_unload()
    again = get_peft_model(merged, RedConfig())
    with fails("unsupported-model", "folded"):
        again.save_pretrained(tmp_path / "one")
    model = get_peft_model(row.load(), RedConfig())
    for before in ([], [model.save_pretrained]):  # an empty folder, and one with vectors of an earlier time
        for save in before:
            save(tmp_path / "two")
        with fails("unsupported-file"):
            model.save_pretrained(tmp_path / "two", safe_serialization=False)
        for pickle in (tmp_path / "two").glob("*.bin"):
            pickle.unlink()


def test_several_adapters_are_saved_apart(row: Row, tmp_path: Path) -> None:
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    model.add_adapter("other", RedConfig(positions=["attn"]))
    fill(model, "other")
    model.set_adapter("other")
    expected = row.outputs(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(row.outputs(red_cli.load(tmp_path)), row.edited)
    assert torch.equal(row.outputs(red_cli.load(tmp_path / "other")), expected)
    both = PeftModel.from_pretrained(row.load(), str(tmp_path))
    both.load_adapter(str(tmp_path / "other"), "second")
    both.set_adapter("second")
    assert torch.equal(row.outputs(both), expected)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_bases(row: Row, tmp_path: Path, bits: int) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quant")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    tiny_model("llama", **sizes).save_pretrained(tmp_path / "base")
    quantised = BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4)

    def load() -> torch.nn.Module:
        # bitsandbytes repacks weights in evaluation, once, and computes otherwise after it
        return AutoModelForCausalLM.from_pretrained(
            tmp_path / "base", quantization_config=quantised, dtype=torch.float32
        )

    def outputs(model: torch.nn.Module) -> torch.Tensor:
        ids = torch.arange(5, 17).view(2, 6)
        with torch.no_grad():
            # in evaluation bitsandbytes repacks weights, once, and computes otherwise from then on
            return model.train()(input_ids=ids).logits

    plain = outputs(load())
    model = get_peft_model(load(), RedConfig(task_type="CAUSAL_LM"))
    assert torch.equal(outputs(model), plain)
    fill(model)
    expected = outputs(model)
    assert not torch.equal(expected, plain)
    with model.disable_adapter():
        assert torch.equal(outputs(model), plain)
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(load(), str(tmp_path / "adapter"))
    assert torch.equal(outputs(again), expected)
    reference = load()
    red_cli.load_adapter(reference, tmp_path / "adapter")
    assert torch.equal(outputs(reference), expected)
    with fails("unsupported-model", "cannot hold an edit"):
        again.merge_and_unload()
    assert torch.equal(outputs(again), expected)
