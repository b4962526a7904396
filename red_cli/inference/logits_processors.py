"""Against repetition while decoding, as in transformers, but blind to padding: a batch changes nothing.

transformers' own look at all ids before, padding included, and ban runs of tokens in a loop over rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList


class NoRepeatedRuns(LogitsProcessor):
    """No run of `size` tokens twice in a sequence, its prompt included (`no_repeat_ngram_size`).

    Args:
        padding: (prompts,), how many ids at the beginning of each are padding.
    """

    def __init__(self, size: int, padding: Tensor) -> None:
        self.size, self.padding = size, padding

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (sequences, vocabulary) with what would complete a run at minus infinity."""
        length = input_ids.shape[1]
        if length < self.size:
            return scores
        runs = input_ids.unfold(1, self.size, 1)  # (sequences, starts, size)
        starts = torch.arange(runs.shape[1], device=input_ids.device)
        last = input_ids[:, length - self.size + 1 :]
        begun = (runs[..., :-1] == last[:, None, :]).all(-1) & (
            starts >= _of_sequences(self.padding, input_ids)[:, None]
        )
        rows, places = begun.nonzero(as_tuple=True)
        scores = scores.clone()
        scores[rows, runs[rows, places, -1]] = -torch.inf
        return scores


class RepetitionPenalty(LogitsProcessor):
    """Scores of tokens that a sequence has already, divided by `penalty`, or multiplied where they are negative."""

    def __init__(self, penalty: float, padding: Tensor) -> None:
        self.penalty, self.padding = penalty, padding

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (sequences, vocabulary), penalised."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        real = places >= _of_sequences(self.padding, input_ids)[:, None]
        ids = torch.where(real, input_ids, input_ids[:, -1:])  # the last id is real in any case
        known = scores.gather(1, ids)
        return scores.scatter(1, ids, torch.where(known < 0, known * self.penalty, known / self.penalty))


def penalties(penalty: float, run: int, padding: Tensor) -> LogitsProcessorList:
    """Those that have an effect: `penalty` other than 1, `run` other than 0."""
    chosen: list[LogitsProcessor] = []
    if penalty != 1:
        chosen.append(RepetitionPenalty(penalty, padding))
    if run:
        chosen.append(NoRepeatedRuns(run, padding))
    return LogitsProcessorList(chosen)


def _of_sequences(padding: Tensor, input_ids: Tensor) -> Tensor:
    """The padding of each sequence: the beams of a prompt follow one another."""
    return padding.repeat_interleave(len(input_ids) // len(padding))
