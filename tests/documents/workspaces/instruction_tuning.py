"""What the page of instruction tuning names: conversations in one file and in splits, and a tiny decoder."""

from __future__ import annotations

from pathlib import Path

from tests.documents.workspaces import conversations, write_jsonl, write_jsonl_splits, write_model

EXTRA_KEYS = {
    "train": ["train.max_steps=2", "train.warmup_ratio=0"],
    **{command: ["eval.generation.max_new_tokens=4"] for command in ("chat", "eval", "predict")},
}


def prepare(folder: Path) -> None:
    write_jsonl(folder / "orders.jsonl", conversations(48))
    write_jsonl_splits(folder / "my_talks", conversations(48, seed=1))
    (folder / "questions.txt").write_text("Where is my parcel?\n")
    for name in ("SmolLM2-135M", "SmolLM2-135M-Instruct"):
        write_model(folder / "HuggingFaceTB" / name, "llama")
