"""Prompts and completions as token ids: rows, batches, and which tokens count towards the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from red_cli.edit.kinds import ModelKind
from red_cli.tasks.base import Batch, Encoded
from red_cli.tasks.data.tables import Rows
from red_cli.tasks.special_ids import Affixes, SpecialIds
from red_cli.tasks.text.token_loss import IGNORED, token_losses


@dataclass(frozen=True, kw_only=True)
class EncodedTexts(Encoded):
    """A split of prompts and completions: row i is a prompt's ids, then the completion's with the end.

    `labels` (rows,) int64 is how many tokens of each row count towards the loss; None where there are no completions.
    An encoder-decoder reads the two parts separately, a decoder as one sequence.

    Attributes:
        prompt_lengths: (rows,), tokens of the prompts.
        rows: what the ids were made of.
        prompts: the texts that answers are generated from.
        completions: the texts that complete them; None where they are not known.
        loss_mask: (tokens,) bool, which tokens count towards the loss, where that is not all that follows a prompt.
    """

    prompt_lengths: NDArray[np.int64]
    rows: Rows
    prompts: Sequence[str] = ()
    completions: Sequence[str] | None = None
    loss_mask: NDArray[np.bool_] | None = None

    def longest_inputs(self, encoder_decoder: bool) -> tuple[dict[str, int], int]:
        """Model input -> tokens of the longest row; and the most tokens of a row that have a label."""
        labelled = 0 if self.labels is None else int(self.labels.max())
        if encoder_decoder and labelled:
            return {"inputs_embeds": int(self.prompt_lengths.max()), "decoder_inputs_embeds": labelled}, labelled
        return {"inputs_embeds": int(self.lengths.max())}, labelled

    def parts(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """A row's prompt and completion."""
        row = self.row(index)
        return row[: self.prompt_lengths[index]], row[self.prompt_lengths[index] :]

    def targets(self, index: int, train_on_prompt: bool) -> NDArray[np.int64]:
        """What a decoder is to predict at each position of a row: the token after it, or nothing.

        With `train_on_prompt` the prompt counts towards the loss too.
        """
        row = self.row(index)
        if self.labels is None:
            return np.full(len(row), IGNORED)
        after = np.append(row[1:], IGNORED)
        if train_on_prompt:
            return after
        if self.loss_mask is not None:
            mask = self.loss_mask[self.offsets[index] + 1 : self.offsets[index + 1]]
        else:
            mask = np.arange(1, len(row)) >= self.prompt_lengths[index]
        return np.where(np.append(mask, False), after, IGNORED)


@dataclass
class TextBatch(Batch):
    """A batch whose labels are tokens.

    `labels` (rows, length) holds at each position the id that the model is to predict there, or -100. For an
    encoder-decoder the positions are the decoder's.

    Attributes:
        positions: (labelled tokens,), where those are in the flattened labels.
        owners: (labelled tokens,), the row of the batch that each belongs to.
    """

    positions: Tensor
    owners: Tensor

    def to(self, device: torch.device) -> TextBatch:
        moved = super().to(device)
        assert isinstance(moved, TextBatch)
        positions, owners = (tensor.to(device, non_blocking=True) for tensor in (self.positions, self.owners))
        return replace(moved, positions=positions, owners=owners)


@dataclass(frozen=True)
class TruncatedExample:
    """A row that fits: its prompt and completion, whether something was cut off, and whether its end was."""

    prompt: list[int]
    completion: list[int]
    truncated: bool
    end_truncated: bool


def truncate(
    prompt: list[int], completion: list[int] | None, affixes: Affixes, end: int, limit: int, separate: bool
) -> TruncatedExample:
    """Put affixes around a prompt and an end after a completion, and truncate both to `limit` tokens.

    The prompt loses its beginning, as much as needed but its last token. Only a completion that does not fit even then
    loses its end, and the end's token with it: the model is not to learn that a text is complete where it was cut.

    Args:
        completion: None where it is not known; the row is then the prompt alone.
        limit: more than the affixes and one token each of prompt and completion.
        separate: whether the limit is that of each part, as an encoder-decoder reads them, and not of both together.
    """
    answer = [] if completion is None else [*(affixes.before if separate else []), *completion, end]
    room = limit - len(affixes) - (0 if separate else len(answer))
    kept = prompt[len(prompt) - max(room, 1) :] if len(prompt) > max(room, 1) else prompt
    framed = [*affixes.before, *kept, *affixes.after]
    left = limit - (0 if separate else len(framed))
    end_truncated = left < len(answer)
    return TruncatedExample(framed, answer[:left], len(kept) < len(prompt) or end_truncated, end_truncated)


def concatenate(
    rows: Sequence[TruncatedExample],
) -> tuple[dict[str, NDArray[np.int32]], NDArray[np.int64], NDArray[np.int64]]:
    """Rows as `features`, `offsets` and `prompt_lengths` of EncodedTexts."""
    ids = np.fromiter((token for row in rows for part in (row.prompt, row.completion) for token in part), np.int32)
    lengths = np.array([len(row.prompt) + len(row.completion) for row in rows], dtype=np.int64)
    prompts = np.array([len(row.prompt) for row in rows], dtype=np.int64)
    return {"input_ids": ids}, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), prompts


def collate_texts(
    encoded: EncodedTexts, indices: NDArray[np.int64], kind: ModelKind, special_ids: SpecialIds, train_on_prompt: bool
) -> TextBatch:
    """The rows `indices`, padded on the right; `train_on_prompt` has a decoder's prompts count towards the loss too."""
    if kind.encoder_decoder:
        parts = [encoded.parts(index) for index in indices.tolist()]
        inputs = _padded([prompt for prompt, _ in parts], special_ids.padding)
        answers: list[NDArray[Any]] = [answer for _, answer in parts]
        starts = [np.concatenate([[special_ids.decoder_start], answer[:-1]]) for answer in answers]
        inputs["decoder_input_ids"] = _padded(starts, special_ids.padding)["input_ids"]
        if encoded.labels is None:
            answers = [np.full(len(answer), IGNORED) for answer in answers]
    else:
        inputs = _padded([encoded.row(index) for index in indices.tolist()], special_ids.padding)
        answers = [encoded.targets(index, train_on_prompt) for index in indices.tolist()]
    return text_batch(inputs, _padded(answers, IGNORED)["input_ids"])


def text_batch(inputs: dict[str, Tensor], labels: Tensor) -> TextBatch:
    """A batch of these inputs and targets, with the places of its labelled tokens."""
    owners, _ = (labels != IGNORED).nonzero(as_tuple=True)
    positions = (labels.flatten() != IGNORED).nonzero().flatten()
    return TextBatch(inputs, labels, weight=len(positions), positions=positions, owners=owners)


def row_losses(model: nn.Module, batch: TextBatch) -> tuple[Tensor, Tensor]:
    """The sum of losses, float32, and the number of labelled tokens of each row of a batch."""
    rows = batch.inputs["input_ids"].shape[0]
    losses = losses_of(model, batch)
    sums = torch.zeros(rows, device=losses.device).index_add(0, batch.owners, losses)
    return sums, torch.bincount(batch.owners, minlength=rows)


def losses_of(model: nn.Module, batch: TextBatch) -> Tensor:
    """The loss of each labelled token, (labelled tokens,) float32."""
    assert batch.labels is not None
    return token_losses(model, batch.inputs, batch.positions, batch.labels.flatten()[batch.positions])


def _padded(rows: Sequence[NDArray[np.generic]], filling: int) -> dict[str, Tensor]:
    """Ids padded on the right, and their mask."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(max(lengths.max(), 1))[None, :] < lengths[:, None]
    ids = np.full(mask.shape, filling, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
