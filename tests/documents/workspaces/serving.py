"""Two finished runs, one of labels and one of conversations, and new rows."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import run_red
from tests.documents.workspaces import conversations, write_jsonl, write_model, write_tickets


def prepare(folder: Path) -> None:
    write_tickets(folder / "tickets.csv", 48)
    write_tickets(folder / "new.csv", 6, seed=1)
    write_jsonl(folder / "talks.jsonl", conversations(32))
    write_model(folder / "distilbert/distilbert-base-uncased", "distilbert")
    write_model(folder / "HuggingFaceTB/SmolLM2-135M-Instruct", "llama")
    before = Path.cwd()
    os.chdir(folder)
    try:
        train("tickets.csv", "model.name_or_path=distilbert/distilbert-base-uncased")
        train("talks.jsonl", "model.name_or_path=HuggingFaceTB/SmolLM2-135M-Instruct")
    finally:
        os.chdir(before)


def train(file: str, base: str) -> None:
    outcome = run_red("train", file, "--yes", base, "train.num_train_epochs=1")
    assert outcome.code == 0, outcome.err
