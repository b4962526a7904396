"""Everything that trains is saved with the vectors: an adapter answers the same under any seed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import PreTrainedModel

import red_cli
from red_cli import RedConfig, attach, fold, load_adapter, save_adapter
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE, read_adapter_config
from tests.export.test_export import edit_json
from tests.failures import fails
from tests.tiny import first_output, make_base, random_vectors, tiny_config, tiny_inputs, tiny_model

# class -> options of from_pretrained, what attach is given, whether the user unfreezes embeddings, what is saved
HEADS = {
    "two labels": ("BertForSequenceClassification", {}, True, False, "classifier.weight classifier.bias"),
    "number": ("BertForSequenceClassification", {"num_labels": 1}, True, False, "classifier.weight classifier.bias"),
    "tokens": ("BertForTokenClassification", {"num_labels": 5}, True, False, "classifier.weight classifier.bias"),
    "answers": ("BertForQuestionAnswering", {}, True, False, "qa_outputs.weight qa_outputs.bias"),
    "choices": ("BertForMultipleChoice", {}, True, False, "classifier.weight classifier.bias"),
    "decoder": ("LlamaForSequenceClassification", {"pad_token_id": 0}, True, False, "score.weight"),
    "base in parts": ("T5ForQuestionAnswering", {}, True, False, "qa_outputs.weight qa_outputs.bias"),
    "masked words": ("BertForMaskedLM", {}, True, False, ""),
    "language": ("GPT2LMHeadModel", {}, True, False, ""),
    "language, tied": ("GPT2LMHeadModel", {}, True, True, "transformer.wte.weight"),
    "language, untied": ("LlamaForCausalLM", {}, ["lm_head"], False, "lm_head.weight"),
    "tied by name": ("GPT2LMHeadModel", {}, ["lm_head"], False, "transformer.wte.weight"),
    "unfrozen too": (
        "BertForSequenceClassification", {}, True, True,
        "classifier.weight classifier.bias bert.embeddings.word_embeddings.weight",
    ),
    "by name": (
        "BertForSequenceClassification", {"files": "BertForSequenceClassification"}, ["classifier.bias"], False,
        "classifier.bias",
    ),
    "no pooler in the files": (
        "BertForSequenceClassification", {"files": "BertForMaskedLM"}, True, False,
        "bert.pooler.dense.weight bert.pooler.dense.bias classifier.weight classifier.bias",
    ),
}  # fmt: skip
TYPES = {"Bert": "bert", "Llama": "llama", "T5": "t5", "GPT2": "gpt2"}


def logits(model: PreTrainedModel) -> torch.Tensor:
    ids = tiny_inputs()["input_ids"]
    if "Choice" in type(model).__name__:
        ids = ids[None]
    with torch.inference_mode():
        output = model.eval()(input_ids=ids)
    return torch.cat([value.flatten() for key, value in output.items() if "logits" in key])


def write_base(kind: str, files: str | None, folder: Path) -> Path:
    """The files of a model of class `files`; those of a bare base if it is None, so that every head is new."""
    model_type = next(type_ for start, type_ in TYPES.items() if kind.startswith(start))
    config = tiny_config(model_type)
    torch.manual_seed(0)
    language = files or (kind if kind.endswith(("LM", "LMHeadModel")) else None)
    made = getattr(transformers, language)(config) if language else transformers.AutoModel.from_config(config)
    made.save_pretrained(folder)
    return folder


def train_at_random(model: PreTrainedModel) -> None:
    """Move everything that trains, as an optimiser would."""
    random_vectors(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ".red." not in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize(("kind", "options", "train_head", "unfreeze", "saved"), HEADS.values(), ids=HEADS.keys())
def test_an_adapter_answers_alike_under_another_seed(
    tmp_path: Path, kind: str, options: dict, train_head: bool | list[str], unfreeze: bool, saved: str
) -> None:
    base = write_base(kind, options.get("files"), tmp_path / "base")

    def fresh(seed: int) -> PreTrainedModel:
        torch.manual_seed(seed)
        return getattr(transformers, kind).from_pretrained(
            base, **{key: value for key, value in options.items() if key != "files"}
        )

    model = fresh(1)
    attach(model, RedConfig(), train_head=train_head)
    if unfreeze:
        model.get_input_embeddings().requires_grad_(True)
    train_at_random(model)
    save_adapter(model, tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / CONFIG_FILE).read_text())["head"] == saved.split()

    other = fresh(2)
    load_adapter(other, tmp_path / "adapter")
    assert torch.equal(logits(other), logits(model))
    loaded = red_cli.load(tmp_path / "adapter", **({"pad_token_id": 0} if "pad_token_id" in options else {}))
    assert type(loaded) is type(model)
    assert torch.equal(logits(loaded), logits(model))


CASTS = {
    "after": (torch.float32, torch.bfloat16),
    "half": (torch.float32, torch.float16),
    "before": (torch.bfloat16, None),
    "before and after": (torch.bfloat16, torch.bfloat16),  # the head's inputs follow its dtype
}


@pytest.mark.parametrize(("before", "after"), CASTS.values(), ids=CASTS.keys())
def test_files_are_float32_whatever_the_model_was_cast_to(
    tmp_path: Path, before: torch.dtype, after: torch.dtype | None
) -> None:
    model = tiny_model("bert").to(before)
    attach(model, RedConfig())
    model.get_input_embeddings().requires_grad_(True)
    train_at_random(model)
    if after is not None:
        model.to(after)
    save_adapter(model, tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS_FILE).values()} == {torch.float32}
    other = tiny_model("bert", seed=2).to(before)
    other.load_state_dict(tiny_model("bert").state_dict())
    load_adapter(other, tmp_path)
    if after is not None:
        other.to(after)
    with torch.inference_mode():
        assert torch.equal(first_output(other, tiny_inputs()), first_output(model, tiny_inputs()))


@pytest.mark.parametrize("files", ["BertForSequenceClassification", None])
def test_a_head_that_is_not_to_train_is_neither_trained_nor_saved(tmp_path: Path, files: str | None) -> None:
    """One that starts at random is named when it is attached, and when the adapter is loaded."""
    base = write_base("BertForSequenceClassification", files, tmp_path / "base")
    folder = tmp_path / "adapter"
    for step in (lambda model: attach(model, RedConfig(), train_head=False), lambda model: load_adapter(model, folder)):
        model = transformers.BertForSequenceClassification.from_pretrained(base)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            step(model)
        assert ["classifier.weight" in str(warning.message) for warning in said] == ([] if files else [True])
        assert not model.classifier.weight.requires_grad
        save_adapter(model, folder)
        assert json.loads((folder / CONFIG_FILE).read_text())["head"] == []


FAULTS = {
    "no such module": ({"train_head": ["clasifier"]}, "unknown-name", "classifier.weight"),
    "no such parameter": ({"train_head": ["classifier.scale"]}, "unknown-name", "classifier.scale"),
}


@pytest.mark.parametrize(("options", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_leave_the_model_as_it_was(options: dict, code: str, fact: str) -> None:
    model = tiny_model("bert")
    with fails(code, fact):
        attach(model, RedConfig(), **options)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not hasattr(model, "red_attachment")


def test_a_quantised_head_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quant")
    sizes = {"hidden_size": 64, "intermediate_size": 128}
    tiny_model("bert", **sizes).save_pretrained(tmp_path)
    quantised = transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["bert.pooler"])
    model = transformers.BertForSequenceClassification.from_pretrained(tmp_path, quantization_config=quantised)
    with fails("unsupported-model", "classifier.weight", "llm_int8_skip_modules"):
        attach(model, RedConfig())


# what the base's own classifier extends it by; the class in it answers otherwise than that of transformers
OWN_CLASS = """
from transformers import BertForSequenceClassification

class Own(BertForSequenceClassification):
    def forward(self, *arguments, **options):
        output = super().forward(*arguments, **options)
        output.logits = output.logits * 3
        return output
"""


def test_the_adapter_of_a_class_of_the_base_loads_in_that_class_alone(red: Callable, tmp_path: Path) -> None:
    base, folder = make_base(tmp_path / "base"), tmp_path / "adapter"
    (base / "own.py").write_text(OWN_CLASS)
    edit_json(base / "config.json", auto_map={"AutoModelForSequenceClassification": "own.Own"})
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, trust_remote_code=True)
    attach(model, RedConfig())
    train_at_random(model)
    save_adapter(model, folder)
    config = read_adapter_config(folder)
    assert (config.architecture, config.task_type, config.classifies) == ("Own", "SEQ_CLS", True)
    loaded = red_cli.load(folder, trust_remote_code=True)
    assert type(loaded).__name__ == "Own"
    assert torch.equal(logits(loaded), logits(model))
    with fails("base-mismatch", "Own", "trust_remote_code=True"):
        red_cli.load(folder)
    outcome = red("predict", folder, "--text", "a film was", "model.trust_remote_code=true", "--json")
    assert outcome.code == 0, outcome.err

    for other in ("PreTrainedModel", "AutoModel", "pipeline"):
        edit_json(folder / CONFIG_FILE, architecture=other)
        with fails("base-mismatch", other):
            red_cli.load(folder)


def test_loading_names_the_base_that_is_missing(tmp_path: Path) -> None:
    model = tiny_model("bert")
    model.save_pretrained(tmp_path / "base")
    model = type(model).from_pretrained(tmp_path / "base")
    attach(model, RedConfig())
    save_adapter(model, tmp_path / "adapter")
    (tmp_path / "base").rename(tmp_path / "moved")
    with fails("base-not-found", str(tmp_path / "base"), "base="):
        red_cli.load(tmp_path / "adapter")
    loaded = red_cli.load(tmp_path / "adapter", base=tmp_path / "moved")
    assert torch.equal(logits(loaded), logits(model))
    with fails("folder-not-found", "snapshot_download"):
        red_cli.load("someone/adapter")
    fold(loaded)
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-5, rtol=0)
