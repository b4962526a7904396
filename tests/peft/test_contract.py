"""What holds for every kind of model with RED in PEFT: equal outputs and files, switching, mixing, merging."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import red_cli
from red_cli import attach
from red_cli.edit.adapter_config import WEIGHTS_FILE, read_adapter_config
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.errors import UserError
from tests.extras import has_extra
from tests.failures import fails
from tests.peft.conftest import Row, fill
from tests.tiny import CONFIGS, LAYERS, SEQ2SEQ, WIDTH, first_output, random_vectors, tiny_inputs

if has_extra("baselines"):
    import peft
    from peft import PeftModel, get_peft_model

    from red_cli.peft import PeftEdit, RedConfig

KEEP_ENCODER = "_prepare_encoder_decoder_kwargs_for_generation"


# Architectures without a place for the bias of an FFN output
WITHOUT_PLACE = {
    "mpt", "phi3", "stablelm", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2", "cohere",
    "t5", "mt5", "umt5", "longt5",
}  # fmt: skip


def skip_unknown(row: Row) -> None:
    """PEFT 0.20 and 0.21.0 look for a method of encoder-decoders that newer versions of transformers lack."""
    renamed = row.name in SEQ2SEQ and not hasattr(row.kind, KEEP_ENCODER)
    if renamed and tuple(int(part) for part in peft.__version__.split(".")[:3]) < (0, 21, 1):
        pytest.skip(f"PEFT {peft.__version__} has no encoder-decoders with this version of transformers")


@pytest.fixture(autouse=True)
def known_to_peft(request: pytest.FixtureRequest) -> None:
    if "row" in request.fixturenames:
        skip_unknown(request.getfixturevalue("row"))


def new(row: Row, **options: object) -> PeftModel:
    return get_peft_model(row.load(), RedConfig(task_type=row.task, **options))


def test_a_folder_of_red_loads_in_peft(row: Row) -> None:
    torch.manual_seed(77)
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    assert type(model) is peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING[row.task]
    assert torch.equal(row.outputs(model), row.edited)
    assert not torch.equal(row.edited, row.plain)
    with model.disable_adapter():
        assert torch.equal(row.outputs(model), row.plain)
    assert torch.equal(row.outputs(model), row.edited)


def test_a_folder_of_peft_loads_in_both(row: Row, tmp_path: Path) -> None:
    """The same edits, attached by red and by PEFT, have the same outputs, files and counts."""
    model = new(row)
    fill(model)
    reference = row.load()
    attach(reference, red_cli.RedConfig())
    random_vectors(reference)
    expected = row.outputs(reference)
    assert torch.equal(row.outputs(model), expected)

    model.save_pretrained(tmp_path / "by_peft")
    reference.save_pretrained(tmp_path / "by_red")
    ours, theirs = read_adapter_config(tmp_path / "by_red"), read_adapter_config(tmp_path / "by_peft")
    same = {"base", "architecture", "red", "target_modules", "task_type", "base_model_name_or_path", "label_names"}
    assert ours.model_dump(include=same) == theirs.model_dump(include=same)
    assert {*ours.head} == {*theirs.head}
    one, other = (load_file(tmp_path / folder / WEIGHTS_FILE) for folder in ("by_peft", "by_red"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)

    torch.manual_seed(78)
    assert torch.equal(row.outputs(red_cli.load(tmp_path / "by_peft")), expected)
    torch.manual_seed(79)
    again = PeftModel.from_pretrained(row.load(), str(tmp_path / "by_peft"))
    assert torch.equal(row.outputs(again), expected)


def test_only_vectors_and_head_train(row: Row, capsys: pytest.CaptureFixture[str]) -> None:
    model, reference = new(row), row.load()
    attach(reference, red_cli.RedConfig())
    expected = sum(parameter.numel() for parameter in reference.parameters() if parameter.requires_grad)
    trained, total = model.get_nb_trainable_parameters()
    assert trained == expected
    assert expected >= 2 * WIDTH * LAYERS
    model.print_trainable_parameters()
    assert f"trainable params: {expected:,d} || all params: {total:,d}" in capsys.readouterr().out
    status = model.get_model_status()
    assert (status.enabled, status.active_adapters, status.merged_adapters) == (True, ["default"], [])
    assert {status.peft_types["default"], status.adapter_model_type} == {"RED", "RedModel"}


def test_a_step_of_training_is_the_same(row: Row) -> None:
    steps = []
    for model in (new(row), row.load()):
        if not isinstance(model, PeftModel):
            attach(model, red_cli.RedConfig())
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        for _ in range(3):
            output = first_output(model, tiny_inputs(row.name))
            optimizer.zero_grad()
            output.square().mean().backward()
            optimizer.step()
        steps.append(row.outputs(model))
    assert torch.equal(*steps)
    assert not torch.equal(steps[0], row.plain)


def test_merging_is_saved_and_loads_without_peft(row: Row, tmp_path: Path) -> None:
    limit = 1e-5 * row.edited.abs().max()
    merged = PeftModel.from_pretrained(row.load(), str(row.adapter)).merge_and_unload()
    assert type(merged) is row.kind
    assert (row.outputs(merged) - row.edited).abs().max() <= limit
    assert not [name for name, _ in merged.named_modules() if "red" in name.split(".") or "modules_to_save" in name]
    if row.name in WITHOUT_PLACE:
        with fails("unsupported-model", "plain loading would drop"):
            merged.save_pretrained(tmp_path)
        return
    merged.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, report = row.kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert (row.outputs(loaded) - row.edited).abs().max() <= limit
    if row.name == "llama":
        assert loaded.config.mlp_bias is True


def test_scales_alone_merge_everywhere(row: Row, tmp_path: Path) -> None:
    model = new(row, components=["scale"])
    fill(model)
    expected = row.outputs(model)
    model.merge_and_unload().save_pretrained(tmp_path)
    assert (row.outputs(row.kind.from_pretrained(tmp_path)) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_merging_is_undone_bit_for_bit(row: Row) -> None:
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.merge_adapter(safe_merge=True)
    layers = [module for module in model.modules() if isinstance(module, PeftEdit)]
    assert all(layer.merged_adapters == ["default"] for layer in layers)
    assert (row.outputs(model) - row.edited).abs().max() <= 1e-5 * row.edited.abs().max()
    with pytest.raises(UserError):
        row.outputs(model, adapter_names=["default"] * 4)
    model.unmerge_adapter()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(row.outputs(model), row.edited)
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(row.outputs(model), row.plain)
    assert torch.equal(row.outputs(model), row.edited)


def test_a_merge_that_fails_changes_nothing(row: Row) -> None:
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    layers = [module for module in model.modules() if isinstance(module, PeftEdit)]
    layers[-1].scale["default"].data.fill_(torch.inf)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for merge in (model.merge_adapter, model.merge_and_unload):
        with fails("value-not-finite"):
            merge(safe_merge=True)
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not any(layer.merged for layer in layers)


def test_another_adapter_is_merged_with_its_own_head(row: Row) -> None:
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    model.add_adapter("other", RedConfig(task_type=row.task))
    fill(model, "other", seed=6)
    model.set_adapter("other")
    other = row.outputs(model)
    model.set_adapter("default")
    if row.task == "SEQ_CLS":
        for merge in (model.merge_adapter, model.merge_and_unload):
            with fails("invalid-adapter-name", "not of other"):
                merge(adapter_names=["other"])
        assert torch.equal(row.outputs(model), row.edited)
        model.set_adapter("other")
    merged = model.merge_and_unload(adapter_names=["other"])
    assert (row.outputs(merged) - other).abs().max() <= 1e-5 * other.abs().max()


def test_unloading_gives_the_base_back(row: Row) -> None:
    """The head that was trained stays, as with every tuner of PEFT."""
    base = PeftModel.from_pretrained(row.load(), str(row.adapter)).unload()
    head = {*read_adapter_config(row.adapter).head}
    expected, found = row.load().state_dict(), base.state_dict()
    assert type(base) is row.kind
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) is (name not in head) for name in expected)
    attach(base, red_cli.RedConfig())  # nothing of PEFT is left in its way


def test_several_adapters_switch_and_mix(row: Row) -> None:
    """Rows of a mixed batch have the outputs that each adapter has alone; one adapter edits other places."""
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    model.add_adapter("other", RedConfig(task_type=row.task, positions=["ffn", "attn"], components=["bias"]))
    assert torch.equal(row.outputs(model), row.edited)
    fill(model, "other", seed=6)
    model.set_adapter("other")
    other = row.outputs(model)
    assert not torch.equal(other, row.edited)
    model.set_adapter("default")
    assert torch.equal(row.outputs(model), row.edited)

    alone = {"default": row.edited, "other": other, "__base__": row.plain}
    names = ["other", "__base__", "default", "other"]
    for active in ("default", "other"):
        model.set_adapter(active)
        mixed = row.outputs(model, adapter_names=names)
        for number, name in enumerate(names):
            torch.testing.assert_close(mixed[number], alone[name][number], atol=1e-5, rtol=0)
        assert torch.equal(row.outputs(model), alone[active])
    with model.disable_adapter():
        assert torch.equal(row.outputs(model, adapter_names=names), row.plain)
    with pytest.raises(UserError) as unknown:
        row.outputs(model, adapter_names=["other", "absent", "other", "other"])
    assert unknown.value.code == "invalid-adapter-name"

    model.delete_adapter("other")
    model.set_adapter("default")
    assert torch.equal(row.outputs(model), row.edited)


def test_generation_mixes_adapters(row: Row) -> None:
    """Texts and their scores, greedy and of a beam search, in which a batch has more rows than names."""
    if row.task == "SEQ_CLS":
        pytest.skip("a classifier writes no text")
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    ids = torch.arange(5, 17).view(2, 6)

    def written(beams: int, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
        answer = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=beams, max_new_tokens=6, min_new_tokens=6,
            do_sample=False, return_dict_in_generate=True, output_logits=True, output_scores=True, **options,
        )  # fmt: skip
        scores = answer.sequences_scores if beams > 1 else torch.stack(answer.logits, dim=1)
        return answer.sequences, scores

    for beams in (1, 3):
        texts, scores = written(beams)
        with model.disable_adapter():
            plain_texts, plain_scores = written(beams)
        assert (scores - plain_scores).abs().amax() > 0.01
        mixed_texts, mixed_scores = written(beams, adapter_names=["__base__", "default"])
        assert torch.equal(mixed_texts, torch.stack([plain_texts[0], texts[1]]))
        torch.testing.assert_close(mixed_scores, torch.stack([plain_scores[0], scores[1]]), atol=1e-5, rtol=1e-5)


def test_models_can_be_copied_and_pickled(row: Row) -> None:
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(row.outputs(twin), row.edited)
        fill(twin, seed=9)
        assert not torch.equal(row.outputs(twin), row.edited)
        twin.unload()
        assert torch.equal(row.outputs(model), row.edited)


def test_bfloat16_bases_keep_float32_vectors(row: Row, tmp_path: Path) -> None:
    reference = row.load(dtype=torch.bfloat16)
    red_cli.load_adapter(reference, row.adapter)
    model = PeftModel.from_pretrained(row.load(dtype=torch.bfloat16), str(row.adapter), autocast_adapter_dtype=False)
    assert torch.equal(row.outputs(model), row.outputs(reference))
    trained = PeftModel.from_pretrained(row.load(dtype=torch.bfloat16), str(row.adapter), is_trainable=True)
    assert {parameter.dtype for parameter in trained.parameters() if parameter.requires_grad} == {torch.float32}
    model.save_pretrained(tmp_path)
    assert torch.equal(row.outputs(red_cli.load(tmp_path)), row.edited)  # no value was rounded
    merged = model.merge_and_unload()
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    row.outputs(merged)


def test_loading_on_the_meta_device(row: Row) -> None:
    model = PeftModel.from_pretrained(row.load(), str(row.adapter), low_cpu_mem_usage=True)
    assert torch.equal(row.outputs(model), row.edited)


def test_transformers_own_loading_applies_the_edits(row: Row, tmp_path: Path) -> None:
    """`from_pretrained` of an adapter folder, which transformers hands to PEFT; or it refuses."""
    if row.task == "SEQ_CLS" and tuple(int(part) for part in transformers.__version__.split(".")[:2]) < (5, 18):
        with fails("version-too-old", "head"):
            row.kind.from_pretrained(row.adapter)
        return
    assert torch.equal(row.outputs(row.kind.from_pretrained(row.adapter)), row.edited)
    model = row.load()
    model.load_adapter(str(row.adapter))
    assert torch.equal(row.outputs(model), row.edited)
    if row.task == "SEQ_CLS":  # transformers leaves the first head active
        with fails("unsupported-method", "head"):
            model.load_adapter(str(row.adapter), adapter_name="second")
    else:
        model.load_adapter(str(row.adapter), adapter_name="second")
    assert torch.equal(row.outputs(model), row.edited)
    # its configuration would belong to other vectors; some versions of transformers refuse this PEFT altogether
    with pytest.raises((UserError, ValueError), match=r"does not save|version of PEFT"):
        model.save_pretrained(tmp_path)
    assert not [*tmp_path.glob("adapter*")]


def test_auto_classes(row: Row) -> None:
    kinds = {
        "CAUSAL_LM": peft.AutoPeftModelForCausalLM,
        "SEQ_CLS": peft.AutoPeftModelForSequenceClassification,
        "SEQ_2_SEQ_LM": peft.AutoPeftModelForSeq2SeqLM,
    }
    options = {"num_labels": 3} if row.task == "SEQ_CLS" else {}
    model = kinds[row.task].from_pretrained(str(row.adapter), **options)
    assert torch.equal(row.outputs(model), row.edited)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture(name: str, make_row: Callable[..., Row], tmp_path: Path) -> None:
    """Where a bias has no place in a mixture of experts, scales alone."""
    mixture = ARCHITECTURES[name].positions["ffn"].endswith(r"\.mlp")
    row = make_row(name, components=("scale",) if mixture else ("scale", "bias"))
    skip_unknown(row)
    model = PeftModel.from_pretrained(row.load(), str(row.adapter))
    assert torch.equal(row.outputs(model), row.edited)
    model.save_pretrained(tmp_path / "adapter")
    assert torch.equal(row.outputs(red_cli.load(tmp_path / "adapter")), row.edited)
    limit = 1e-5 * row.edited.abs().max()
    merged = model.merge_and_unload()
    assert (row.outputs(merged) - row.edited).abs().max() <= limit
    if name in WITHOUT_PLACE:
        with fails("unsupported-model"):
            merged.save_pretrained(tmp_path / "merged")
        return
    merged.save_pretrained(tmp_path / "merged")
    loaded, report = row.kind.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(report.values())
    assert (row.outputs(loaded) - row.edited).abs().max() <= limit
