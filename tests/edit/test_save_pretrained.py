"""`save_pretrained` of a model with edits, Trainer and `push_to_hub` write adapter folders, never whole weights."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from transformers.utils import hub

import red_cli
from red_cli import RedConfig, activate, attach, detach, fold
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE
from red_cli.edit.attached_adapters import edits
from tests.failures import assert_failed, fails
from tests.tiny import (
    LAYERS,
    WIDTH,
    first_output,
    make_base,
    make_language_model,
    random_vectors,
    tiny_inputs,
    tiny_model,
)

ADAPTER = {CONFIG_FILE, WEIGHTS_FILE, "README.md"}
ROWS = [{"input_ids": [5 + (row * 7 + place) % 18 for place in range(8)], "labels": row % 2} for row in range(24)]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bare") / "bert")


def edited(base: Path, seed: int) -> PreTrainedModel:
    """A classifier whose new head starts by a seed."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    attach(model, RedConfig(positions=["ffn"]))
    return model


def trainer(model: PreTrainedModel, folder: Path, **options: object) -> Trainer:
    settings = {
        "max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1,
        "report_to": "none", "disable_tqdm": True, "use_cpu": True, "seed": 3,
    }  # fmt: skip
    return Trainer(
        model, TrainingArguments(str(folder), **{**settings, **options}), train_dataset=ROWS, eval_dataset=ROWS[:8]
    )


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return first_output(model.eval(), tiny_inputs())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_trainer_saves_adapters_and_resumes_from_them(
    bare: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Four steps straight, and two that another process with another new head resumes, end in the same model."""
    straight = edited(bare, seed=1)
    trainer(straight, tmp_path / "straight").train()
    checkpoint = tmp_path / "straight" / "checkpoint-2"
    assert ADAPTER | {"model.safetensors", "optimizer.pt"} <= names(checkpoint)
    assert "config.json" not in names(checkpoint)
    values = LAYERS * 2 * WIDTH + 2 * WIDTH + 2
    assert 4 * values < (checkpoint / WEIGHTS_FILE).stat().st_size < 4 * values + 2000

    shutil.copytree(checkpoint, tmp_path / "resumed" / "checkpoint-2")
    resumed = edited(bare, seed=2)
    run = trainer(resumed, tmp_path / "resumed")
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        run.train(resume_from_checkpoint=True)
    assert "missing keys" not in caplog.text  # the base is not in the checkpoint, and need not be
    expected = straight.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())

    run.save_model(str(tmp_path / "saved"))
    assert names(tmp_path / "saved") == ADAPTER | {"training_args.bin"}
    for folder in (tmp_path / "saved", tmp_path / "resumed" / "checkpoint-4"):
        assert torch.equal(logits(red_cli.load(folder)), logits(straight))


def test_the_best_checkpoint_is_loaded_at_the_end(bare: Path, tmp_path: Path) -> None:
    model = edited(bare, seed=1)
    run = trainer(model, tmp_path, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True,
                  metric_for_best_model="loss", greater_is_better=True, bf16=True, bf16_full_eval=True)  # fmt: skip
    run.train()
    best = Path(run.state.best_model_checkpoint)
    assert {tensor.dtype for tensor in load_file(best / WEIGHTS_FILE).values()} == {torch.float32}
    for path, vectors in edits(model):
        stored = load_file(best / WEIGHTS_FILE)[f"base_model.model.{path}.red.scale"]
        assert torch.equal(vectors.scale, stored.to(vectors.scale.dtype))


def load_with_configuration(folder: Path, base: Path) -> object:
    return AutoModelForSequenceClassification.from_pretrained(folder, config=AutoConfig.from_pretrained(base))


PLAIN = {
    "auto": lambda folder, base: AutoModelForSequenceClassification.from_pretrained(folder),
    "class": lambda folder, base: BertForSequenceClassification.from_pretrained(folder),
    "configuration": load_with_configuration,
    "pipeline": lambda folder, base: transformers.pipeline("text-classification", model=str(folder)),
}


@pytest.mark.parametrize("with_peft", [True, False])
@pytest.mark.parametrize("load", PLAIN.values(), ids=PLAIN.keys())
def test_plain_loading_refuses_the_folder(
    bare: Path, tmp_path: Path, load: Callable, with_peft: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT does not know the type RED; without PEFT, there is no model in the folder."""
    if with_peft:
        mapping = pytest.importorskip("peft.mapping", reason="needs the extra baselines")
        monkeypatch.delitem(mapping.PEFT_TYPE_TO_CONFIG_MAPPING, "RED", raising=False)  # another test may add it
    else:
        for module in ("integrations.peft", "models.auto.auto_factory", "pipelines"):
            monkeypatch.setattr(f"transformers.{module}.is_peft_available", lambda: False)
    edited(bare, seed=1).save_pretrained(tmp_path / "saved")
    expected = (KeyError, "'RED'") if with_peft else ((OSError, ValueError), r"config\.json|model\.safetensors")
    with pytest.raises(expected[0], match=expected[1]):
        load(tmp_path / "saved", bare)


def test_pushing_uploads_the_adapter(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, uploaded = edited(bare, seed=1), {}
    api = SimpleNamespace(create_repo=lambda name, **_: SimpleNamespace(repo_id=name))
    card = SimpleNamespace(save=lambda path: Path(path).write_text("card"))
    monkeypatch.setattr(hub, "hf_api", lambda: api, raising=False)  # the newer and the older way to the Hub
    monkeypatch.setattr(hub, "create_repo", api.create_repo, raising=False)
    monkeypatch.setattr(hub, "create_and_tag_model_card", lambda *_, **__: card)
    model._upload_modified_files = lambda folder, name, **_: uploaded.update({name: names(Path(folder))})
    model.push_to_hub("someone/one")
    model.save_pretrained(tmp_path / "two", push_to_hub=True, commit_message="two")
    model.save_pretrained(tmp_path / "here", push_to_hub=True, repo_id="someone/three", max_shard_size="1GB")
    assert uploaded == dict.fromkeys(["someone/one", "two", "someone/three"], ADAPTER)
    assert names(tmp_path / "two") == names(tmp_path / "here") == ADAPTER


def test_copies_save_themselves(bare: Path, tmp_path: Path) -> None:
    model = edited(bare, seed=1)
    for place, other in {"copied": copy.deepcopy(model), "pickled": pickle.loads(pickle.dumps(model))}.items():
        random_vectors(other, seed=len(place))
        other.save_pretrained(tmp_path / place)
        assert torch.equal(logits(red_cli.load(tmp_path / place)), logits(other))


def test_detached_and_folded_models_save_whole(bare: Path, tmp_path: Path) -> None:
    for end in (detach, fold):
        model = edited(bare, seed=1)
        random_vectors(model)
        attached = logits(model)
        end(model)
        assert "save_pretrained" not in {name for module in model.modules() for name in vars(module)}
        model.save_pretrained(tmp_path / end.__name__)
        plain = logits(AutoModelForSequenceClassification.from_pretrained(tmp_path / end.__name__))
        assert torch.equal(plain, logits(model))
        if end is fold:
            torch.testing.assert_close(plain, attached, atol=1e-5, rtol=0)


def test_what_plain_loading_would_drop_is_refused(tmp_path: Path) -> None:
    model = tiny_model("bert")
    model.save_pretrained(tmp_path / "whole")
    attach(model, RedConfig(), "one")
    with fails("unsupported-model", "bert has edits", "fold"):
        model.base_model.save_pretrained(tmp_path / "part")
    with fails("output-exists", "config.json"):
        model.save_pretrained(tmp_path / "whole")
    attach(model, RedConfig(), "two")
    with pytest.warns(UserWarning, match=r"'two' alone.* one"):
        model.save_pretrained(tmp_path / "two")
    activate(model, None)
    with fails("invalid-adapter-name", "one, two"):
        model.save_pretrained(tmp_path / "none")
    assert names(tmp_path) == {"whole", "two"}

    llama = tiny_model("llama")
    attach(llama, RedConfig())
    fold(llama)
    for end in (None, detach, fold):  # biases that were folded before stay undeclared
        if end is not None:
            with pytest.warns(UserWarning, match="not saved"):
                attach(llama, RedConfig())
            with fails("unsupported-model", "red export"):
                llama.save_pretrained(tmp_path / "adapter")
            end(llama)
        with fails("unsupported-model", "model.layers.0.mlp.down_proj.bias", "red export"):
            llama.save_pretrained(tmp_path / "folded")
        with fails("unsupported-model", "layers.0.mlp.down_proj.bias", "red export"):
            llama.model.save_pretrained(tmp_path / "folded")
    assert names(tmp_path) == {"whole", "two"}
    llama.config.mlp_bias = True
    llama.save_pretrained(tmp_path / "folded")
    assert "model.layers.0.mlp.down_proj.bias" in load_file(tmp_path / "folded" / "model.safetensors")


@pytest.mark.parametrize("end", [None, fold])
def test_a_model_around_a_part_with_edits_is_refused(tmp_path: Path, end: Callable | None) -> None:
    whole = tiny_model("llama")
    attach(whole.model, RedConfig())
    with fails("invalid-adapter-name", "LlamaForCausalLM"):
        attach(whole, RedConfig())
    if end is not None:
        end(whole.model)
    with fails(
        "unsupported-model", "model in the LlamaForCausalLM" if end is None else "model.layers.0.mlp.down_proj.bias"
    ):
        whole.save_pretrained(tmp_path / "whole")
    assert "model.safetensors" not in names(tmp_path / "whole")
    whole.state_dict()  # a state that no `save_pretrained` writes loads into the same model
    if end is None:
        whole.model.save_pretrained(tmp_path / "part")
        assert names(tmp_path / "part") == ADAPTER
        detach(whole.model)
    whole.config.mlp_bias = end is not None
    whole.save_pretrained(tmp_path / "whole")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert torch.equal(logits(plain), logits(whole))


def test_commands_take_a_checkpoint(red: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, checkpoint = make_language_model(tmp_path / "base"), tmp_path / "checkpoint-2"
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    attach(model, RedConfig())
    random_vectors(model)
    model.save_pretrained(checkpoint)
    assert_failed(red("eval", checkpoint, "--json"), "not-a-run", "--recipe")
    assert red("export", checkpoint, "-o", tmp_path / "merged").code == 0
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = tiny_inputs()["input_ids"]
    with torch.inference_mode():
        torch.testing.assert_close(merged(ids).logits, model.eval()(ids).logits, atol=1e-5, rtol=0)
    monkeypatch.setattr("sys.stdin", io.StringIO("a film was\n"))
    outcome = red("chat", checkpoint)
    assert outcome.code == 0, outcome.err
