"""Files in the layout of the GLUE tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from red_cli.recipe.tasks.glue import GLUE
from tests.tiny import sentences


def write_glue(folder: Path, subset: str, train_rows: int = 72, rows: int = 24) -> Path:
    """Write the splits of a task with so many training rows, and rows in each other split; returns the folder."""
    facts = GLUE[subset]
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate(
        {"train": train_rows, **dict.fromkeys(facts.validation_splits, rows)}.items()
    ):
        texts = [str(row["text"])[:20] for row in sentences(count, seed)]
        labels = np.arange(count) % len(facts.labels) if facts.labels else np.arange(count) % 26 / 5
        columns = dict.fromkeys(facts.columns, texts) | {"label": labels}
        pyarrow.parquet.write_table(pa.table(columns), folder / f"{split}.parquet")
    return folder
