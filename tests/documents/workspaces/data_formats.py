"""What the page of data formats names: tickets in one file and in splits, with the recipe of classification."""

from __future__ import annotations

from pathlib import Path

from red_cli.recipe.bundled_recipes import find_recipe
from tests.documents.workspaces import write_model, write_ticket_splits, write_tickets

EXTRA_KEYS = {"train": ["train.max_steps=2", "train.warmup_ratio=0"]}


def prepare(folder: Path) -> None:
    write_tickets(folder / "tickets.csv", 60)
    write_ticket_splits(folder / "my_data")
    (folder / "classification.yaml").write_text(find_recipe("classification").read_text())
    write_model(folder / "FacebookAI/roberta-base", "roberta")
