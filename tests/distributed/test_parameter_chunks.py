"""While a base loads, each rank keeps its chunk of each matrix: together they are what one process loads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from red_cli.base_model.load import load_base, load_config
from red_cli.base_model.mapped_pages import returning_pages
from red_cli.distributed.device import CPU
from red_cli.distributed.parameter_chunks import Sharding, chunk_of, keeping_chunks, restore
from red_cli.distributed.process_group import Processes
from red_cli.edit.model_kinds import DECODER, ENCODER_DECODER, SEQUENCE_CLASSIFIER
from red_cli.recipe.sections import Model
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
