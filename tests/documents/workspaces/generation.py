"""What the page of generation names: prompts in splits, restaurants, texts to score, and tiny decoders."""

from __future__ import annotations

from pathlib import Path

from tests.documents.workspaces import prompts, write_jsonl, write_jsonl_splits, write_model
from tests.tiny import write_csv

EXTRA_KEYS = {
    "train": ["train.max_steps=2", "eval.generation.max_new_tokens=4"],
    "train e2e_nlg": ["train.warmup_steps=0"],
    "eval": ["eval.generation.max_new_tokens=4"],
    "predict": ["eval.generation.max_new_tokens=4"],
}
MEANINGS = [
    ("name[The Mill], food[French]", "The Mill serves French food."),
    ("name[Blue Spice], area[riverside]", "Blue Spice lies by the riverside."),
]


def prepare(folder: Path) -> None:
    write_jsonl_splits(folder / "my_texts", prompts(36))
    write_jsonl(folder / "new.jsonl", [{"prompt": "Where is my parcel?"}])
    (folder / "e2e").mkdir()
    for split in ("train", "validation", "test"):
        rows = [{"meaning_representation": meaning, "human_reference": text} for meaning, text in MEANINGS * 6]
        write_csv(folder / "e2e" / f"{split}.csv", rows)
    (folder / "pred.txt").write_text("Blue Spice serves French food.\nThe Mill is a cheap pub.\n")
    (folder / "ref.txt").write_text("Blue Spice has French food.\nFrench food at Blue Spice.\n\nThe Mill is a pub.\n")
    write_model(folder / "openai-community/gpt2", "gpt2")
    write_model(folder / "openai-community/gpt2-medium", "gpt2")
    write_model(folder / "HuggingFaceTB/SmolLM2-135M-Instruct", "llama")
