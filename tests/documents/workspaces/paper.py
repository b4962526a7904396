"""RTE's files in place of those on the Hub, the paper's bases, and a checkpoint of its code."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoConfig

from tests.documents.workspaces import write_model
from tests.glue_files import write_glue

_RTE = ["data.path=rte", "train.max_steps=2"]
EXTRA_KEYS = {"train glue_rte": _RTE, "check glue_rte": _RTE}


def prepare(folder: Path) -> None:
    write_glue(folder / "rte", "rte")
    base = write_model(folder / "FacebookAI/roberta-base", "roberta")
    shutil.copytree(base, folder / "FacebookAI/roberta-large")
    write_model(folder / "google-t5/t5-base", "t5")
    write_checkpoint(folder / "checkpoint", base)


def write_checkpoint(folder: Path, base: Path) -> None:
    """Vectors under the names that the published code gives them."""
    config = AutoConfig.from_pretrained(base)
    names = [f"roberta.encoder.layer.{layer}.output.dense" for layer in range(config.num_hidden_layers)]
    vectors = {
        f"{name}.delta_vector.activation_{kind}": torch.ones(config.hidden_size)
        for name in names
        for kind in ("scaling", "bias")
    }
    folder.mkdir()
    torch.save(vectors, folder / "delta_vector.pth")
