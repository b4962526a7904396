"""Tickets and a base."""

from __future__ import annotations

from pathlib import Path

from tests.documents.workspaces import write_model, write_tickets

EXTRA_KEYS = {"train": ["train.max_steps=2"]}


def prepare(folder: Path) -> None:
    write_tickets(folder / "tickets.csv", 48)
    write_model(folder / "FacebookAI/roberta-base", "roberta")
