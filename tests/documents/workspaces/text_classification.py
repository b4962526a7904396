"""What the page of classification names: tickets in one file and in splits, pairs with a number, and tiny bases."""

from __future__ import annotations

from pathlib import Path

import pyarrow.csv
import pyarrow.parquet

from tests.documents.workspaces import ticket_rows, write_model, write_ticket_splits, write_tickets
from tests.tiny import write_csv

EXTRA_KEYS = {
    "train": ["train.max_steps=2", "train.warmup_ratio=0"],
    "eval runs/classification-seed42": ["--limit", "8"],
}


def prepare(folder: Path) -> None:
    write_tickets(folder / "tickets.csv", 96, ("text", "topic"))
    write_tickets(folder / "new.csv", 8, ("text", "topic"), seed=1)
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(folder / "new.csv"), folder / "new.parquet")
    write_ticket_splits(folder / "my_data")
    texts = [row["text"] for row in ticket_rows(48)]
    rows = zip(texts[:24], texts[24:], range(24), strict=True)
    write_csv(
        folder / "pairs.csv", [dict(zip(("sentence_1", "sentence_2", "similarity"), row, strict=True)) for row in rows]
    )
    write_model(folder / "sentence-transformers/all-MiniLM-L6-v2", "bert")
    write_model(folder / "FacebookAI/roberta-base", "roberta")
    write_model(folder / "google-t5/t5-small", "t5")
