"""Runs whose folders hold everything that a report can show, without training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from red_cli import RedConfig, attach, save_adapter
from red_cli.edit.attached_adapters import edits
from tests.report.finished import finished_run

LABELS = ["billing", "complaint", "praise", "where is my order and when will it finally arrive"]
CONFUSION = [[52, 3, 0, 1], [4, 31, 0, 2], [6, 1, 0, 0], [0, 2, 0, 18]]
NASTY = '<img src=x onerror=alert("&")> ' + "unbrokenlyLongWord" * 12
UNTUNED = 0.2667


def layered_adapter(folder: Path, layers: int) -> Path:
    """An adapter of five kinds of modules in each layer, the vectors of which differ."""
    config = BertConfig(hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
                        vocab_size=50)  # fmt: skip
    model = BertForSequenceClassification(config)
    attach(model, RedConfig(positions=["ffn", "attn", "query", "key", "value"], layers="1:"))
    with torch.no_grad():
        for number, (_, edit) in enumerate(edits(model)):
            for name, vector in edit.named_parameters():
                vector.add_((0.08 if name == "scale" else 0.5) * (1 + math.sin(number)))
    save_adapter(model, folder)
    return folder


def full_run(folder: Path, layers: int = 24) -> Path:
    """A finished classification run with a log, classes, errors, notes, samples and the spread of its outputs."""
    counts = list(zip(*CONFUSION, strict=True))
    classes = [
        {"label": label, "rows": sum(CONFUSION[n]), "predicted": sum(counts[n]),
         "precision": CONFUSION[n][n] / max(1, sum(counts[n])), "recall": CONFUSION[n][n] / sum(CONFUSION[n]),
         "f1": 2 * CONFUSION[n][n] / (sum(counts[n]) + sum(CONFUSION[n]))}
        for n, label in enumerate(LABELS)
    ]  # fmt: skip
    errors = [
        {"row": 17, "text": "I was charged twice, and nobody answers.", "label": "complaint", "prediction": "billing",
         "probability": 0.991},
        {"row": 4, "text": NASTY, "label": LABELS[3], "prediction": "complaint", "probability": 0.87},
    ]  # fmt: skip
    scores = {"examples": 120, "accuracy": 0.8417, "f1": 0.6312, "matthews_correlation": 0.77}
    digests = {split: {"rows": rows, "sha256": "0" * 64} for split, rows in {"train": 480, "validation": 120}.items()}
    run = finished_run(
        folder, "classification", "data.path=customer_messages.csv", "model.name_or_path=FacebookAI/roberta-base",
        "red.positions=red++", score=0.8417, splits={"validation": scores, "test": {**scores, "accuracy": 0.825}},
        untuned={"split": "validation", "examples": 120, "accuracy": UNTUNED, "f1": 0.1, "matthews_correlation": 0.01},
        majority={"validation": {"label": "billing", "accuracy": 56 / 120}}, classes={"validation": classes},
        confusion={"validation": CONFUSION}, errors={"validation": errors},
        notes=[{"code": "never-predicted", "text": "The class praise (7 rows) is never predicted."}],
        best={"value": 0.8417, "step": 150, "epoch": 5.0},
        inputs={"splits": digests, "label_names": LABELS, "base": None},
        training={"steps": 180, "seconds": 754.0, "examples_per_second": 3.2, "peak_memory_bytes": 2**30,
                  "device": "cpu", "seed": 42},
    )  # fmt: skip
    layered_adapter(run / "adapter", layers)
    paths = json.loads((run / "adapter" / "adapter_config.json").read_text())["target_modules"]
    spread = {"rows": 8, "tokens": 240, "modules": {path: 1 + n % 3 for n, path in enumerate(paths)}}
    (run / "output_spread.json").write_text(json.dumps(spread))
    lines = [
        {"step": step, "epoch": step / 30, "loss": 1.4 * 0.985**step + 0.02 * (step % 3)} for step in range(1, 181)
    ]
    for step, score in {30: 0.51, 60: 0.7, 90: 0.79, 120: 0.83, 150: 0.8417, 180: 0.8333}.items():
        samples = [{"prompt": NASTY, "answer": f"answer of step {step}\nin two lines", "label": "right"},
                   {"prompt": "Write a haiku about rain.", "answer": "Rain falls.", "label": None}]  # fmt: skip
        lines.append({"step": step, "epoch": step / 30, "validation_accuracy": score, "samples": samples})
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def methods_and_seeds(folder: Path, seeds: int = 3) -> Path:
    """Runs of four methods on RTE under several seeds, which record their untuned scores."""
    sizes = {"red": 18432, "lora": 294912, "full": 124055040, "head": 0}
    for place, (method, edited) in enumerate(sizes.items()):
        for seed in range(42, 42 + seeds):
            before = {"split": "validation", "examples": 100, "accuracy": 0.47 + seed / 5000}
            parameters = {"edited": edited, "head": 592130, "base": 124055040, "share": edited / 124055040}
            finished_run(folder / method / f"seed{seed}", "glue_rte", f"method={method}", seed=seed, method=method,
                         score=0.78 - 0.02 * place + (seed % 3) * 0.004, untuned=before,
                         parameters=parameters)  # fmt: skip
    return folder
