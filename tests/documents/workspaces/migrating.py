"""Conversations, instructions and tickets, and the bases of the worked examples."""

from __future__ import annotations

import json
from pathlib import Path

from tests.documents.workspaces import conversations, prompts, write_jsonl, write_model, write_ticket_splits

EXTRA_KEYS = {"train": ["train.max_steps=2"], "compare": ["train.max_steps=2"]}


def prepare(folder: Path) -> None:
    write_model(folder / "FacebookAI/roberta-base", "roberta")
    write_model(folder / "Qwen/Qwen2.5-0.5B-Instruct", "qwen2")
    write_model(folder / "HuggingFaceTB/SmolLM2-360M-Instruct", "llama")
    write_ticket_splits(folder / "tickets")
    rows = [{"instruction": row["prompt"], "input": "", "output": row["completion"]} for row in prompts(48)]
    (folder / "support.json").write_text(json.dumps(rows))
    write_jsonl(folder / "talks.jsonl", conversations(48))
