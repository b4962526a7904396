"""Repetition penalties as in transformers, but without padding, so that a batch does not change results.

The processors of transformers include padding ids, and ban n-grams in a loop over rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList


class NoRepeatNgrams(LogitsProcessor):
    """Allows no n-gram of `size` tokens twice in a sequence, its prompt included (`no_repeat_ngram_size`).

    Args:
        padding: (prompts,), number of padding ids at the beginning of each prompt.
    """

    def __init__(self, size: int, padding: Tensor) -> None:
        self.size, self.padding = size, padding

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (sequences, vocabulary), minus infinity for tokens that would repeat an n-gram."""
        length = input_ids.shape[1]
        if length < self.size:
            return scores
        ngrams = input_ids.unfold(1, self.size, 1)  # (sequences, starts, size)
        starts = torch.arange(ngrams.shape[1], device=input_ids.device)
        last = input_ids[:, length - self.size + 1 :]
        begun = (ngrams[..., :-1] == last[:, None, :]).all(-1) & (
            starts >= _of_sequences(self.padding, input_ids)[:, None]
        )
        rows, places = begun.nonzero(as_tuple=True)
        scores = scores.clone()
        scores[rows, ngrams[rows, places, -1]] = -torch.inf
        return scores


class RepetitionPenalty(LogitsProcessor):
    """Divides the scores of a sequence's earlier tokens by `penalty`; multiplies negative scores."""

    def __init__(self, penalty: float, padding: Tensor) -> None:
        self.penalty, self.padding = penalty, padding

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (sequences, vocabulary), penalised."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        real = places >= _of_sequences(self.padding, input_ids)[:, None]
        ids = torch.where(real, input_ids, input_ids[:, -1:])  # the last id is real in any case
        known = scores.gather(1, ids)
        return scores.scatter(1, ids, torch.where(known < 0, known * self.penalty, known / self.penalty))


def penalties(penalty: float, ngram_size: int, padding: Tensor) -> LogitsProcessorList:
    """The processors that have an effect: for a `penalty` other than 1 and an `ngram_size` other than 0."""
    chosen: list[LogitsProcessor] = []
    if penalty != 1:
        chosen.append(RepetitionPenalty(penalty, padding))
    if ngram_size:
        chosen.append(NoRepeatNgrams(ngram_size, padding))
    return LogitsProcessorList(chosen)


def _of_sequences(padding: Tensor, input_ids: Tensor) -> Tensor:
    """The padding of each sequence; the beams of a prompt are consecutive."""
    return padding.repeat_interleave(len(input_ids) // len(padding))
