"""Agreement with the published code on tiny random models (tests/data/golden), and with its checkpoints."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LRScheduler
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    get_linear_schedule_with_warmup,
)

from red_cli import RedConfig, attach, load_adapter
from red_cli.distributed.engine import Replicated
from red_cli.distributed.process_group import SINGLE_PROCESS
from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.edit.attached_adapters import edits
from red_cli.edit.published import read_published
from red_cli.edit.trained_head import head_parameter_names, train_head
from red_cli.inference.runtime import Runtime
from red_cli.methods.red import trained_red
from red_cli.plan.batches import BatchSampler
from red_cli.plan.prepare import Prepared, Scoring
from red_cli.plan.schedule import Schedule
from red_cli.plan.strategy import StrategyChoice
from red_cli.recipe.schema import Recipe
from red_cli.runs.folder import RunFolder
from red_cli.tasks.base import Base, Encoded
from red_cli.tasks.build import build_task
from red_cli.tasks.data.rows import RowsUsed
from red_cli.train.checkpoint_folder import TrainingState
from red_cli.train.events import NullTrainingListener
from red_cli.train.learning_rate_schedules import build_scheduler
from red_cli.train.loop import optimizer_step
from red_cli.train.optimizer import build_optimizer
from red_cli.train.session import Optimisation, Session
from red_cli.train.stopping import Stop

_NAMES = {"scaling": "scale", "bias": "bias"}
_KEY = "encoder.layer.0.output.dense.delta_vector.activation_"
GOLDEN = Path(__file__).parents[1] / "data" / "golden"
# case -> (how plain transformers loads its base, largest difference of logits allowed)
FORWARD_CASES = {
    **dict.fromkeys(
        ["roberta_ffn", "roberta_ffn_scaling", "roberta_ffn_bias", "roberta_ffn_exclude_0", "roberta_attn",
         "roberta_more", "roberta_res"],
        (AutoModelForSequenceClassification, 1e-5),
    ),
    "gpt2_ffn": (AutoModelForCausalLM, 1e-5),
    "llama_ffn": (AutoModelForCausalLM, 0.1),  # bfloat16 throughout, as published
    "t5_ffn": (AutoModelForSeq2SeqLM, 1e-5),
}  # fmt: skip


def converted(red, case: str, folder: Path) -> Path:
    """The case's published checkpoint as an adapter folder."""
    outcome = red("convert", GOLDEN / case, "--base", GOLDEN / case / "base", "--output", folder / "adapter")
    assert outcome.code == 0, outcome.err
    return folder / "adapter"


@pytest.mark.parametrize("case", FORWARD_CASES)
def test_logits(red, case: str, tmp_path: Path) -> None:
    kind, tolerance = FORWARD_CASES[case]
    expected = load_file(GOLDEN / case / "io.safetensors")
    labels = {"num_labels": expected["logits"].shape[-1]} if kind is AutoModelForSequenceClassification else {}
    model = kind.from_pretrained(GOLDEN / case / "base", dtype=expected["logits"].dtype, **labels).eval()
    load_adapter(model, converted(red, case, tmp_path))
    with torch.inference_mode():
        logits = model(**{name: tensor for name, tensor in expected.items() if name not in ("logits", "loss")}).logits
    torch.testing.assert_close(logits, expected["logits"], atol=tolerance, rtol=0)


def adamw(model: torch.nn.Module, options: dict, steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """The optimiser and schedule of a case's training, over all trainable parameters."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, options["lr"], options["betas"], options["eps"], options["weight_decay"])
    return optimizer, get_linear_schedule_with_warmup(optimizer, options["warmup_steps"], steps)


@pytest.mark.parametrize("case", ["roberta_ffn_train", "gpt2_ffn_train"])
def test_losses_of_forty_steps_through_the_public_functions(case: str) -> None:
    expected = load_file(GOLDEN / case / "io.safetensors")
    options = json.loads((GOLDEN / case / "case.json").read_text())["train"]
    if case.startswith("roberta"):
        model = AutoModelForSequenceClassification.from_pretrained(GOLDEN / case / "base", num_labels=3)
        attach(model, RedConfig())
        model.classifier.load_state_dict(load_file(GOLDEN / case / "initial_head.safetensors"))
        train_head(model, head_parameter_names(model))
    else:
        model = AutoModelForCausalLM.from_pretrained(GOLDEN / case / "base")
        attach(model, RedConfig())
    model.eval()  # dropout off
    optimizer, schedule = adamw(model, options, options["steps"])
    losses = []
    for step in range(options["steps"]):
        inputs = {name: tensor[step] for name, tensor in expected.items() if name != "losses"}
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, expected["losses"].numpy(), rtol=1e-4)
    for path, found in read_published(GOLDEN / case).vectors.items():
        edited = dict(edits(model))[path if path in dict(edits(model)) else f"roberta.{path}"]
        for name, vector in found.items():
            torch.testing.assert_close(edited.get_parameter(name).detach(), vector, atol=1e-4, rtol=1e-3)


def test_losses_of_forty_steps(tmp_path: Path) -> None:
    """The toolkit's own optimiser step, schedule and batches follow the published training run."""

    case = "roberta_ffn_train"
    expected = load_file(GOLDEN / case / "io.safetensors")
    options = json.loads((GOLDEN / case / "case.json").read_text())["train"]
    model = AutoModelForSequenceClassification.from_pretrained(GOLDEN / case / "base", num_labels=3).eval()
    attach(model, RedConfig())
    model.classifier.load_state_dict(load_file(GOLDEN / case / "initial_head.safetensors"))
    train_head(model, head_parameter_names(model))

    steps, rows = expected["labels"].shape
    recipe = Recipe.model_validate(
        {
            "task": {"name": "classification", "labels": ["a", "b", "c"]},
            "model": {"name_or_path": str(GOLDEN / case / "base")},
            "data": {"path": "unused"},
            "train": {
                "learning_rate": options["lr"],
                "rates": "absolute",
                "adam_epsilon": options["eps"],
                "warmup_steps": options["warmup_steps"],
                "max_steps": steps,
                "batch_size": rows,
                "max_grad_norm": None,
            },
        }
    )
    mask = expected["attention_mask"].flatten(0, 1).bool()
    encoded = Encoded(
        features={"input_ids": expected["input_ids"].flatten(0, 1)[mask].numpy().astype(np.int32)},
        offsets=np.concatenate([[0], mask.sum(-1).cumsum(0).numpy()]),
        labels=expected["labels"].flatten().numpy(),
        truncated=0,
    )
    task = build_task(recipe, model.config)
    rows_used = RowsUsed("train", len(encoded), "all of train")
    scoring = Scoring("standard", rows_used, rows_used)
    base = Base(model.config, None, 40, task.kind)
    prepared = Prepared(
        task,
        base,
        task.bind(base, None),
        None,
        {"train": encoded},
        selection=encoded,
        cache_uses={},
        special_tokens={},
        source_indices={"train": None},
        scored_rows={},
        scoring=scoring,
    )
    trained = trained_red(model)
    optimizer = build_optimizer(trained, recipe)
    engine = Replicated(model, trained, optimizer, SINGLE_PROCESS, sharded=False)
    warmup = options["warmup_steps"]
    scheduler = build_scheduler(optimizer, recipe.train.lr_scheduler_type, warmup, steps)
    listener = NullTrainingListener()
    session = Session(
        folder=RunFolder(tmp_path),
        prepared=prepared,
        schedule=Schedule(BatchSampler(len(encoded), rows, 0), steps, warmup, None, None, StrategyChoice("single")),
        runtime=Runtime(model, base, recipe, listener),
        listener=listener,
        trained=trained,
        counts=trained.counts,
        optimisation=Optimisation(optimizer, scheduler, engine),
        state=TrainingState(micro_batch_size=rows),
        inputs=None,
        base_record=None,
        trackers=None,
        stop=Stop(SINGLE_PROCESS),
    )
    batches = [session.collate_step(np.arange(step * rows, (step + 1) * rows)) for step in range(steps)]
    taken = [optimizer_step(session, batch) for batch in batches]
    losses = [numbers.read().loss for numbers in taken]
    np.testing.assert_allclose(losses, expected["losses"].numpy(), rtol=1e-4)


PUBLISHED = {
    "roberta_base_mnli_red": ("roberta", {"vocab_size": 50265, "max_position_embeddings": 514}, 18_432, 592_899),
    "roberta_base_qnli_redpp": ("roberta", {"vocab_size": 50265, "max_position_embeddings": 514}, 92_160, 592_130),
    "gpt2_medium_e2e_red": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}, 49_152, 0),
    "gpt2_medium_e2e_redpp": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}, 245_760, 0),
    "t5_base_mnli_red": ("t5", {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}, 36_864, 0),
    "llama2_7b_ultrafeedback_red": ("llama", {}, 262_144, 0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints_convert(red, shared: Path, tmp_path: Path, name: str) -> None:
    model_type, options, edited, head = PUBLISHED[name]
    AutoConfig.for_model(model_type, **options).save_pretrained(tmp_path / "base")
    source = shared / "published" / name
    result = red("convert", source, "--base", tmp_path / "base", "-o", tmp_path / "adapter", "--json").json
    assert (result["edited_parameters"], result["head_parameters"]) == (edited, head)
    assert result["red"]["target_modules"] is None
    assert bool(result["warnings"]) == name.startswith("llama")
    stored = torch.load(source / "delta_vector.pth", weights_only=True, map_location="cpu")
    ours = load_file(tmp_path / "adapter" / WEIGHTS_FILE)
    key, vector = next(iter(stored.items()))
    path, kind = key.split(".delta_vector.activation_")
    mine = [tensor for name, tensor in ours.items() if name.endswith(f"{path}.red.{_NAMES[kind]}")]
    assert len(mine) == 1
    assert torch.equal(mine[0], vector.flatten().float())


CHECKPOINT_FAULTS = {
    "no such file": (None, "file-not-found", "delta_vector.pth"),
    "not a pickle": (b"text", "unsupported-file", "delta_vector.pth"),
    "code": (pickle.dumps(Path("x")), "unsupported-file", "delta_vector.pth"),
    "not named": ([torch.ones(2)], "unsupported-file", "delta_vector.pth"),
    "other names": ({"a.weight": torch.ones(1, 2)}, "unsupported-file", "a.weight (1, 2)"),
    "not finite": ({f"{_KEY}scaling": torch.full((1, 32), float("inf"))}, "value-not-finite", f"{_KEY}scaling"),
    "another width": ({f"{_KEY}scaling": torch.ones(1, 7)}, "base-mismatch", "(7,)"),
    "another base": (
        {"transformer.h.0.mlp.c_proj.delta_vector.activation_bias": torch.ones(1, 32)}, "base-mismatch",
        "transformer.h.0.mlp.c_proj",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "code", "fact"), CHECKPOINT_FAULTS.values(), ids=CHECKPOINT_FAULTS.keys())
def test_faults_of_published_checkpoints(red, tmp_path: Path, content: object, code: str, fact: str) -> None:
    file = tmp_path / "delta_vector.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    outcome = red("convert", file, "--base", GOLDEN / "roberta_ffn" / "base", "-o", tmp_path / "adapter", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code), outcome.err
    assert fact in outcome.err
    assert not (tmp_path / "adapter").exists()
