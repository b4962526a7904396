"""What README names: tickets and orders, and tiny models under the names of the real ones."""

from __future__ import annotations

from pathlib import Path

from tests.documents.workspaces import conversations, write_jsonl, write_model, write_tickets

EXTRA_KEYS = {
    "train quickstart": ["train.max_steps=2", "train.warmup_ratio=0", "data.max_train_rows=64"],
    "eval runs/quickstart-seed42": ["--limit", "20"],
    "train tickets.csv": ["train.max_steps=2"],
    "train orders.jsonl": ["train.max_steps=2"],
    "chat": ["eval.generation.max_new_tokens=8"],
}


def prepare(folder: Path) -> None:
    write_tickets(folder / "tickets.csv", 96, ("text", "topic"))
    write_tickets(folder / "new.csv", 8, ("text", "topic"), seed=1)
    write_jsonl(folder / "orders.jsonl", conversations(48))
    (folder / "questions.txt").write_text("Where is my parcel?\n")
    write_model(folder / "sentence-transformers/all-MiniLM-L6-v2", "bert")
    write_model(folder / "FacebookAI/roberta-base", "roberta")
    write_model(folder / "HuggingFaceTB/SmolLM2-135M-Instruct", "llama")
