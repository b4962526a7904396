"""Prompts and completions as token ids: truncation, batches and loss masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from red_cli.edit.model_kinds import ModelKind
from red_cli.tasks.base import Batch, Encoded
from red_cli.tasks.data.growing import GrowingArray, offsets_of
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.special_ids import SpecialIds

if TYPE_CHECKING:
    from typing_extensions import Self

IGNORED = -100  # the label of a position that does not count towards the loss


@dataclass(frozen=True, kw_only=True)
class EncodedTexts(Encoded):
    """A split of prompts and completions: row i is a prompt's ids, then the completion's ids and the end token.

    `labels` (rows,) int64 counts the tokens of each row that count towards the loss; None without completions. An
    encoder-decoder reads prompt and completion separately, a decoder reads one sequence.

    Attributes:
        prompt_lengths: (rows,), tokens of the prompts.
        rows: the rows that were encoded.
        prompts: the texts to generate from; made when they are used.
        completions: the texts of the completions, likewise; None if unknown.
        numbers: (rows,), which example of its row in the source each is, from 0; None: each row has one.
        loss_mask: (tokens,) bool, which tokens count towards the loss; None: all after the prompt.
    """

    prompt_lengths: NDArray[np.int64]
    rows: Rows
    prompts: Sequence[str] = ()
    completions: Sequence[str] | None = None
    numbers: NDArray[np.int32] | None = None
    loss_mask: NDArray[np.bool_] | None = None

    def longest_inputs(self, encoder_decoder: bool) -> tuple[dict[str, int], int]:
        """Model input -> tokens of the longest row; and the most labelled tokens of a row."""
        labelled = 0 if self.labels is None else int(self.labels.max())
        if encoder_decoder and labelled:
            return {"inputs_embeds": int(self.prompt_lengths.max()), "decoder_inputs_embeds": labelled}, labelled
        return {"inputs_embeds": int(self.lengths.max())}, labelled

    def take(self, indices: Sequence[int]) -> EncodedTexts:
        """Some of the rows, in the order of `indices`."""
        spans = [slice(*self.offsets[index : index + 2]) for index in indices]
        lengths = [0, *(span.stop - span.start for span in spans)]
        return replace(
            self,
            features={name: np.concatenate([ids[span] for span in spans]) for name, ids in self.features.items()},
            offsets=np.cumsum(lengths, dtype=np.int64),
            labels=None if self.labels is None else self.labels[list(indices)],
            kept=None,
            prompt_lengths=self.prompt_lengths[list(indices)],
            rows=self.rows.take(list(indices)),
            prompts=[self.prompts[index] for index in indices] if self.prompts else (),
            completions=None if self.completions is None else [self.completions[index] for index in indices],
            loss_mask=None if self.loss_mask is None else np.concatenate([self.loss_mask[span] for span in spans]),
        )

    def parts(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """A row's prompt and completion."""
        row = self.row(index)
        return row[: self.prompt_lengths[index]], row[self.prompt_lengths[index] :]

    def targets(self, index: int, train_on_prompt: bool) -> NDArray[np.int64]:
        """The token that a decoder is to predict at each position of a row, or -100 where none counts towards the loss.

        With `train_on_prompt` the tokens of the prompt count too.
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
        positions: (labelled tokens,), indices into the flattened labels.
        owners: (labelled tokens,), the row of each in the batch.
        token_weights: (labelled tokens,) float32, how much each counts in the loss; None: all alike.
    """

    positions: Tensor
    owners: Tensor
    token_weights: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        weights = None if self.token_weights is None else change(self.token_weights)
        positions, owners = change(self.positions), change(self.owners)
        return replace(super().map(change), positions=positions, owners=owners, token_weights=weights)


@dataclass(frozen=True)
class TruncatedExample:
    """A prompt and a completion to encode, whether either was truncated, and whether the completion lost its end."""

    prompt: list[int]
    completion: list[int]
    truncated: bool
    end_truncated: bool


class TextsBuilder:
    """Collects the rows of a split as `features`, `offsets` and `prompt_lengths` of EncodedTexts."""

    def __init__(self) -> None:
        self._ids = GrowingArray(np.int32)
        self._lengths, self._prompts = GrowingArray(np.int64), GrowingArray(np.int64)

    def add(self, rows: Sequence[TruncatedExample]) -> None:
        """Add rows at the end."""
        self._ids.extend_rows(part for row in rows for part in (row.prompt, row.completion))
        self._lengths.extend([len(row.prompt) + len(row.completion) for row in rows])
        self._prompts.extend([len(row.prompt) for row in rows])

    def finish(self) -> tuple[dict[str, NDArray[np.int32]], NDArray[np.int64], NDArray[np.int64]]:
        """The arrays of all rows."""
        return {"input_ids": self._ids.finish()}, offsets_of(self._lengths.finish()), self._prompts.finish()


def collate_texts(
    encoded: EncodedTexts, indices: NDArray[np.int64], kind: ModelKind, special_ids: SpecialIds, train_on_prompt: bool
) -> TextBatch:
    """A batch of encoded texts, padded on the right; `train_on_prompt` makes prompts count towards the loss."""
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
    """A batch of encoded texts from these inputs and labels, with the positions of its labelled tokens."""
    owners, _ = (labels != IGNORED).nonzero(as_tuple=True)
    positions = (labels.flatten() != IGNORED).nonzero().flatten()
    return TextBatch(inputs, labels, weight=len(positions), positions=positions, owners=owners)


def _padded(rows: Sequence[NDArray[np.generic]], filling: int) -> dict[str, Tensor]:
    """Ids and attention mask, (rows, longest), padded on the right."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(max(lengths.max(), 1))[None, :] < lengths[:, None]
    ids = np.full(mask.shape, filling, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
