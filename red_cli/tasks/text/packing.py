"""Texts laid one behind another in sequences of equal length, with no attention across them, instead of padding.

transformers builds the block-diagonal causal mask itself, for each kind of attention: without a mask and a cache, a new
sequence begins where position numbers begin again. What fills a sequence up is one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PretrainedConfig

from red_cli.edit.architectures import architecture_of
from red_cli.errors import UserError
from red_cli.tasks.text.language import EncodedTexts, TextBatch, text_batch
from red_cli.tasks.text.token_loss import IGNORED

Pack = NDArray[np.int64]  # rows that share a sequence


def require_packing(config: PretrainedConfig) -> None:
    """Refuse to pack for a model that would let its texts see one another.

    Raises:
        UserError: its architecture is not among those that keep packed texts apart.
    """
    if not architecture_of(config.model_type).keeps_texts_apart:
        raise UserError(
            "unsupported-model",
            f"train.packing: {config.model_type} is not known to keep packed texts apart",
            hint="Leave it out; train.group_by_length pads little as well.",
        )


def pack(rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[Pack]:
    """Divide rows among as few sequences, each as long as the longest row, as first-fit decreasing finds.

    Args:
        rows: of a step.
        lengths: tokens of every row of the split.
    """
    ordered = rows[np.argsort(-lengths[rows], kind="stable")]
    room: list[int] = []
    packs: list[list[int]] = []
    for row in ordered.tolist():
        length = int(lengths[row])
        place = next((place for place, left in enumerate(room) if left >= length), None)
        if place is None:
            place = len(packs)
            packs.append([])
            room.append(int(lengths[ordered[0]]))
        packs[place].append(row)
        room[place] -= length
    return [np.array(each, dtype=np.int64) for each in packs]


def collate_packs(encoded: EncodedTexts, packs: Sequence[Pack], padding: int, train_on_prompt: bool) -> TextBatch:
    """A batch with a sequence for each pack: input_ids and position_ids (packs, longest), and no mask.

    Args:
        padding: id that fills sequences up.
        train_on_prompt: whether prompts count towards the loss too.
    """
    longest = max(int(encoded.lengths[each].sum()) for each in packs)
    ids = np.full((len(packs), longest), padding, dtype=np.int64)
    positions = np.zeros_like(ids)
    labels = np.full_like(ids, IGNORED)
    for sequence, rows in enumerate(packs):
        start = 0
        for row in rows.tolist():
            end = start + int(encoded.lengths[row])
            ids[sequence, start:end] = encoded.row(row)
            positions[sequence, start:end] = np.arange(end - start)
            labels[sequence, start:end] = encoded.targets(row, train_on_prompt)
            start = end
        positions[sequence, start:] = np.arange(longest - start)
    inputs = {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)}
    return text_batch(inputs, torch.from_numpy(labels))
