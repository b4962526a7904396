"""Packing: several texts in one sequence, without attention across them, instead of padding.

transformers builds the block-diagonal causal mask for each kind of attention: without a mask and a cache, a new text
begins where position ids restart. The padding at the end of a sequence counts as a text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PretrainedConfig

from red_cli.edit.architectures import architecture_of
from red_cli.errors import UserError
from red_cli.tasks.text.encoded_texts import IGNORED, EncodedTexts, TextBatch, text_batch

Pack = NDArray[np.int64]  # rows that share a sequence


def require_packing(config: PretrainedConfig) -> None:
    """Check that the architecture does not attend across packed texts.

    Raises:
        UserError: it is not known to keep packed texts apart.
    """
    if not architecture_of(config.model_type).keeps_texts_apart:
        raise UserError(
            "unsupported-model",
            f"train.packing: {config.model_type} is not known to keep packed texts apart",
            hint="Leave it out; train.group_by_length also reduces padding.",
        )


def pack(rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[Pack]:
    """Divide rows among sequences of the longest row's length by first-fit decreasing.

    Args:
        rows: the rows of a step.
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
    """A batch with one sequence for each pack: input_ids and position_ids (packs, longest), without a mask.

    Args:
        padding: the padding id.
        train_on_prompt: whether the tokens of prompts count towards the loss.
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
