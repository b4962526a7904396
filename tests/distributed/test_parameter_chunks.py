"""While a base loads, each rank keeps its chunk of each matrix: together they are what one process loads."""

from __future__ import annotations

from pathlib import Path

import torch

from red_cli.edit.model_kinds import DECODER, ENCODER_DECODER, SEQUENCE_CLASSIFIER
from tests.tiny import DECODERS, ENCODERS, tiny_model

KINDS = {**dict.fromkeys(DECODERS, DECODER), **dict.fromkeys(ENCODERS, SEQUENCE_CLASSIFIER), "t5": ENCODER_DECODER}
# tied embeddings and columns of Conv1D; renamed gamma; experts that are merged; a head; parts kept in float32
ARCHITECTURES = ["gpt2", "llama", "mixtral", "roberta", "t5"]


def saved(architecture: str, folder: Path, form: str) -> Path:
    model = tiny_model(architecture, KINDS[architecture])
    if form == "bin":
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    elif form == "shards of float16":
        model.half().save_pretrained(folder, max_shard_size="20KB")
    else:
        model.save_pretrained(folder)
    return folder
