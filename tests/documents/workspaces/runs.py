"""What the page of runs names: rows of RTE and a tiny base under the name of a real one."""

from __future__ import annotations

from pathlib import Path

from tests.documents.workspaces import write_model
from tests.glue_files import write_glue

_SHORT = ["train.max_steps=2", "train.warmup_ratio=0", "eval.max_rows=20", "data.max_train_rows=64"]
EXTRA_KEYS = {
    "train": _SHORT,
    "compare": _SHORT,
    "compare quickstart --methods": ["--seeds", "42"],
    "eval runs/quickstart-seed42": ["--limit", "20"],
}


def prepare(folder: Path) -> None:
    write_glue(folder / "rte", "rte")
    write_model(folder / "FacebookAI/roberta-large", "roberta")
