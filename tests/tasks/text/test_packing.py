"""Packing: every architecture that claims to keep packed texts apart does."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from red_cli.edit.architectures import ARCHITECTURES
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.text.encoded_texts import IGNORED, EncodedTexts, text_batch
from red_cli.tasks.text.packing import collate_packs, pack, require_packing
from red_cli.tasks.text.token_loss import losses_of
from tests.failures import fails
from tests.tiny import DECODERS, tiny_config, tiny_model

LENGTHS = [11, 3, 7, 1, 5, 2]


def encoded_texts(lengths: list[int] = LENGTHS) -> EncodedTexts:
    draw = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = draw.integers(5, 23, offsets[-1]).astype(np.int32)
    mask = draw.random(offsets[-1]) < 0.7
    mask[offsets[:-1]] = False
    labels = np.add.reduceat(mask.astype(np.int64), offsets[:-1])
    return EncodedTexts(
        features={"input_ids": ids}, offsets=offsets, labels=labels, truncated=0,
        prompt_lengths=np.ones(len(lengths), dtype=np.int64), rows=Rows(None, "texts"), loss_mask=mask,
    )  # fmt: skip


def losses_alone(model: PreTrainedModel, encoded: EncodedTexts, row: int) -> list[float]:
    ids = torch.from_numpy(encoded.row(row).astype(np.int64))[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return losses_of(
        model, text_batch(inputs, torch.from_numpy(encoded.targets(row, train_on_prompt=False))[None])
    ).tolist()


@pytest.mark.parametrize("model_type", DECODERS)
@torch.no_grad()
def test_packed_losses_are_those_of_each_text_alone(model_type: str) -> None:
    """In two sequences of several texts, one of them padded."""
    model, encoded = tiny_model(model_type), encoded_texts()
    packs = [np.array([2, 1, 3]), np.array([0, 4, 5])]
    batch = collate_packs(encoded, packs, padding=0, train_on_prompt=False)
    if "position_ids" not in inspect.signature(type(model).forward).parameters:
        assert not ARCHITECTURES[model_type].keeps_texts_apart
        return
    packed = losses_of(model, batch)
    alone = torch.tensor([loss for rows in packs for row in rows for loss in losses_alone(model, encoded, row)])
    same = bool((packed - alone).abs().max() < 1e-5)
    if ARCHITECTURES[model_type].keeps_texts_apart:
        assert same
    elif same:
        warnings.warn(f"{model_type} keeps packed texts apart, and its row does not say so", stacklevel=1)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen2", "mistral", "gemma2"])
def test_gradients_are_those_of_padded_batches(model_type: str) -> None:
    encoded = encoded_texts()
    model = tiny_model(model_type)
    gradients = []
    for packed in (True, False):
        model.zero_grad()
        if packed:
            packs = pack(np.arange(len(LENGTHS)), encoded.lengths)
            losses_of(model, collate_packs(encoded, packs, padding=0, train_on_prompt=False)).sum().backward()
        else:
            for row in range(len(LENGTHS)):
                if encoded.labels is not None and encoded.labels[row]:
                    ids = torch.from_numpy(encoded.row(row).astype(np.int64))[None]
                    labels = torch.from_numpy(encoded.targets(row, train_on_prompt=False))[None]
                    losses_of(model, text_batch({"input_ids": ids}, labels)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


def test_a_window_of_attention_does_not_reach_over_texts() -> None:
    model = tiny_model("mistral", sliding_window=4)
    encoded = encoded_texts()
    packs = [np.array([0, 2, 4])]
    with torch.no_grad():
        packed = losses_of(model, collate_packs(encoded, packs, padding=0, train_on_prompt=False))
        alone = torch.tensor([loss for row in packs[0] for loss in losses_alone(model, encoded, row)])
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [[5], [5, 5, 5], [9, 1, 1, 1, 8, 2, 4, 4], list(range(1, 40))])
def test_packs_hold_every_row_once_and_fit(lengths: list[int]) -> None:
    rows = np.random.default_rng(1).permutation(len(lengths))
    sizes = np.array(lengths)
    packs = pack(rows, sizes)
    assert sorted(np.concatenate(packs).tolist()) == list(range(len(lengths)))
    filled = [int(sizes[each].sum()) for each in packs]
    assert max(filled) <= max(lengths)
    assert len(packs) <= -(-11 * sum(lengths) // (9 * max(lengths))) + 1  # what first-fit decreasing is known to keep


def test_padding_does_not_count_towards_the_loss() -> None:
    encoded = encoded_texts()
    batch = collate_packs(encoded, [np.array([1]), np.array([0])], padding=4, train_on_prompt=False)
    assert batch.inputs["input_ids"][0, 3:].tolist() == [4] * 8
    assert batch.inputs["position_ids"][0].tolist() == [0, 1, 2, *range(8)]
    assert batch.labels is not None
    assert batch.labels[0, 2:].tolist() == [IGNORED] * 9
    assert encoded.labels is not None
    assert batch.weight == encoded.labels[0] + encoded.labels[1]


def test_an_architecture_that_mixes_texts_is_refused() -> None:
    require_packing(tiny_config("llama"))
    with fails("unsupported-model", "opt"):
        require_packing(tiny_config("opt"))
