"""Tickets with and without faults, bases, and a trained run with copies that are damaged in one way each."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from transformers import AutoModelForCausalLM

from red_cli import attach, save_adapter
from tests.conftest import run_red
from tests.documents.workspaces import conversations, ticket_rows, write_jsonl, write_model, write_tickets
from tests.tiny import random_vectors, write_csv


def prepare(folder: Path) -> None:
    write_data(folder)
    write_model(folder / "distilbert/distilbert-base-uncased", "distilbert")
    write_model(folder / "FacebookAI/roberta-base", "roberta")
    write_model(folder / "Qwen/Qwen3-0.6B-Base", "qwen3")
    (folder / "Qwen/Qwen3-0.6B-Base/chat_template.jinja").unlink()
    with_own_code(folder / "distilbert/distilbert-base-uncased", folder / "custom-model")
    before = Path.cwd()
    os.chdir(folder)
    try:
        outcome = run_red("train", "tickets.csv", "--yes", "model.name_or_path=distilbert/distilbert-base-uncased")
        assert outcome.code == 0, outcome.err
    finally:
        os.chdir(before)
    damage(folder / "runs")
    write_adapter(folder / "Qwen/Qwen3-0.6B-Base", folder / "adapters/qwen")


def write_data(folder: Path) -> None:
    write_tickets(folder / "tickets.csv", 60)
    rows = ticket_rows(60, 5)
    rows[6]["label"] = rows[16]["label"] = ""
    write_csv(folder / "export.csv", rows)
    offices = [{"office": ("north", "south")[index % 7 % 2]} for index in range(60)]
    mails = [
        {"text": row["text"], "team": row["label"], **office}
        for row, office in zip(ticket_rows(60), offices, strict=True)
    ]
    write_csv(folder / "mails.csv", mails)
    (folder / "tickets.docx").write_bytes(b"PK")
    write_jsonl(folder / "talks.jsonl", conversations(30))


def with_own_code(source: Path, model: Path) -> None:
    shutil.copytree(source, model)
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "custom.CustomConfig"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "custom.py").write_text("raise SystemExit\n")


def write_adapter(base: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    attach(model)
    random_vectors(model)
    save_adapter(model, folder)


def damage(runs: Path) -> None:
    """Copies of a run: one without a first evaluation, one with half of a file, one of another tokenizer."""
    for name in ("stopped", "copied", "old"):
        shutil.copytree(runs / "tickets-seed42", runs / name)
    shutil.rmtree(runs / "stopped/adapter")
    (runs / "stopped/metrics.json").unlink()
    weights = runs / "copied/adapter/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:400])
    record = runs / "old/adapter/adapter_config.json"
    config = json.loads(record.read_text())
    config["base_digest"]["tokenizer"] = "0" * 64
    record.write_text(json.dumps(config))
