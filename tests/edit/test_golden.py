"""The published code's own outputs on tiny random models (tests/data/golden)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import RobertaForSequenceClassification

from red_cli import RedConfig, attach
from red_cli.edit.model import edits, head_parameter_names, train_head
from red_cli.recipe.load import Loaded
from red_cli.recipe.schema import Recipe
from red_cli.run.batches import Order
from red_cli.run.checkpoint import TrainingState
from red_cli.run.events import Silent
from red_cli.run.folder import RunFolder
from red_cli.run.optimizer import build_optimizer, build_scheduler
from red_cli.run.plan import Prepared
from red_cli.run.session import Session
from red_cli.run.train import optimizer_step
from red_cli.tasks.base import Encoded
from red_cli.tasks.build import build_task

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
FORWARD_CASES = ["roberta_ffn", "roberta_ffn_scaling", "roberta_ffn_bias", "roberta_ffn_exclude_0"]
_COMPONENTS = {"scaling": ["scale"], "bias": ["bias"]}


def golden_model(case: str, labels: int) -> tuple[RobertaForSequenceClassification, dict]:
    """The case's base with edits where the published options put them, vectors at their start."""
    details = json.loads((GOLDEN / case / "case.json").read_text())
    model = RobertaForSequenceClassification.from_pretrained(GOLDEN / case / "base", num_labels=labels)
    excluded = details["options"].get("exclude_layers", [])
    layers = [layer for layer in range(model.config.num_hidden_layers) if layer not in excluded]
    components = _COMPONENTS.get(details["options"].get("layer_type", ""), ["scale", "bias"])
    attach(model, RedConfig(components=components, layers=layers))
    return model.eval(), details


def published_vectors(case: str) -> dict[str, torch.Tensor]:
    """The published vectors by path of the edited module and component."""
    stored = torch.load(GOLDEN / case / "delta_vector.pth", weights_only=True)
    names = {"scaling": "scale", "bias": "bias"}
    return {
        f"roberta.{path}.red.default.{names[kind]}": vector.flatten()
        for key, vector in stored.items()
        for path, kind in [key.split(".delta_vector.activation_")]
    }


@pytest.mark.parametrize("case", FORWARD_CASES)
def test_logits(case: str) -> None:
    expected = load_file(GOLDEN / case / "io.safetensors")
    model, _ = golden_model(case, labels=expected["logits"].shape[-1])
    vectors = published_vectors(case)
    assert vectors.keys() == {
        f"{path}.red.default.{name}" for path, edit in edits(model) for name, _ in edit.named_parameters()
    }
    head = torch.load(GOLDEN / case / "classifier.pth", weights_only=True)
    with torch.no_grad():
        for name, vector in vectors.items():
            model.get_parameter(name).copy_(vector)
        model.classifier.load_state_dict(head)
        logits = model(expected["input_ids"], attention_mask=expected["attention_mask"]).logits
    torch.testing.assert_close(logits, expected["logits"], atol=1e-5, rtol=0)


def test_losses_of_forty_steps(tmp_path: Path) -> None:
    """The toolkit's own optimiser step, schedule and batches follow the published training run."""
    from accelerate import Accelerator

    case = "roberta_ffn_train"
    expected = load_file(GOLDEN / case / "io.safetensors")
    model, details = golden_model(case, labels=3)
    options = details["train"]
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
    task = build_task(recipe)
    task.pad_token_id = model.config.pad_token_id
    prepared = Prepared(task, model.config, None, 40, {"train": encoded}, ["train"])
    accelerator = Accelerator(cpu=True)
    optimizer = build_optimizer(model, recipe.train)
    session = Session(
        loaded=Loaded(recipe, "golden", None),
        folder=RunFolder(tmp_path),
        prepared=prepared,
        listener=Silent(),
        accelerator=accelerator,
        model=model,
        wrapped=model,
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, recipe.train, steps),
        order=Order(len(encoded), rows, 0),
        total=steps,
        state=TrainingState(micro_batch_size=rows),
    )
    losses = [optimizer_step(session, np.arange(step * rows, (step + 1) * rows))[0] for step in range(steps)]
    np.testing.assert_allclose(losses, expected["losses"].numpy(), rtol=1e-4)
    for name, vector in published_vectors(case).items():
        torch.testing.assert_close(model.get_parameter(name).detach(), vector, atol=1e-4, rtol=1e-4)
