"""Log-likelihoods of several continuations of a prompt.

Continuations that differ only in their last token (answer1, answer2, ...) share one forward pass; a continuation that
differs earlier needs a pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from red_cli.tasks.base import Batch, Encoded
from red_cli.tasks.text.token_loss import token_losses

if TYPE_CHECKING:
    from typing_extensions import Self

Ids = Sequence[int]
Sums = list[tuple[int, float]]  # (number of a continuation, its log-likelihood)


@dataclass(frozen=True, kw_only=True)
class EncodedContinuations(Encoded):
    """Sequences of a prompt and a shared prefix of continuations. Row i scores the tokens
    `token_offsets[i]:token_offsets[i + 1]` of the arrays below.

    Attributes:
        token_offsets: int64, (rows + 1,).
        positions: (tokens,), the position in the row whose logits predict the token.
        targets: (tokens,), the token's id.
        owners: (tokens,), the token's continuation, numbered through all prompts.
    """

    token_offsets: NDArray[np.int64]
    positions: NDArray[np.int64]
    targets: NDArray[np.int64]
    owners: NDArray[np.int64]


@dataclass
class ContinuationBatch(Batch):
    """Rows of EncodedContinuations.

    Attributes:
        positions: (tokens,), indices into the flattened inputs.
        targets: (tokens,), the id to predict at each position.
        owners: each token's continuation.
        rows: each token's row in the batch.
    """

    positions: Tensor
    targets: Tensor
    owners: list[int]
    rows: list[int]

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(super().map(change), positions=change(self.positions), targets=change(self.targets))


def encode_continuations(prompts: Sequence[Ids], continuations: Sequence[Sequence[Ids]]) -> EncodedContinuations:
    """The fewest sequences that score `continuations`, a list for each of `prompts`.

    Every prompt and every continuation must have at least one token. Nothing is truncated.
    """
    rows: list[list[int]] = []
    scored: list[list[tuple[int, int, int]]] = []  # of each row (position, target, owner)
    number = 0
    for prompt, choices in zip(prompts, continuations, strict=True):
        heads: list[tuple[int, ...]] = []
        found: list[list[tuple[int, int, int]]] = []
        for owner, ids in sorted(enumerate(choices, number), key=lambda choice: -len(choice[1])):
            head = tuple(ids[:-1])
            place = next((at for at, known in enumerate(heads) if known[: len(head)] == head), len(heads))
            if place == len(heads):
                heads.append(head)
                found.append([])
            found[place] += [(len(prompt) - 1 + at, target, owner) for at, target in enumerate(ids)]
        rows += [[*prompt, *head] for head in heads]
        scored += found
        number += len(choices)
    tokens = np.array([token for row in scored for token in row], dtype=np.int64).reshape(-1, 3)
    return EncodedContinuations(
        features={"input_ids": np.fromiter((token for row in rows for token in row), np.int32)},
        offsets=_offsets([len(row) for row in rows]),
        labels=None,
        truncated=0,
        token_offsets=_offsets([len(row) for row in scored]),
        positions=tokens[:, 0],
        targets=tokens[:, 1],
        owners=tokens[:, 2],
    )


def collate_continuations(encoded: EncodedContinuations, indices: NDArray[np.int64], padding: int) -> ContinuationBatch:
    """The rows `indices`, padded on the right."""
    rows = [torch.from_numpy(encoded.row(index).astype(np.int64)) for index in indices.tolist()]
    ids = pad_sequence(rows, batch_first=True, padding_value=padding)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).long()
    spans = [slice(*encoded.token_offsets[index : index + 2]) for index in indices.tolist()]
    places = [row * ids.shape[1] + encoded.positions[span] for row, span in enumerate(spans)]
    return ContinuationBatch(
        inputs={"input_ids": ids, "attention_mask": mask},
        labels=None,
        weight=sum(len(place) for place in places),
        positions=torch.from_numpy(np.concatenate(places)),
        targets=torch.from_numpy(np.concatenate([encoded.targets[span] for span in spans])),
        owners=[owner for span in spans for owner in encoded.owners[span].tolist()],
        rows=[row for row, place in enumerate(places) for _ in place],
    )


def continuation_sums(model: nn.Module, batch: ContinuationBatch) -> list[Sums]:
    """The summed log-probabilities of the continuations in each row of a batch."""
    losses = token_losses(model, batch.inputs, batch.positions, batch.targets).tolist()
    sums: list[dict[int, float]] = [{} for _ in range(len(batch.inputs["input_ids"]))]
    for row, owner, loss in zip(batch.rows, batch.owners, losses, strict=True):
        sums[row][owner] = sums[row].get(owner, 0.0) - loss
    return [list(found.items()) for found in sums]


def log_likelihoods(
    prompts: Sequence[Ids],
    continuations: Sequence[Sequence[Ids]],
    forward: Callable[[Callable[[nn.Module, ContinuationBatch], list[Sums]], EncodedContinuations], list[Sums]],
) -> list[list[float]]:
    """The log-likelihood (natural logarithm) of each continuation after its prompt, in the order given.

    `forward` is `ModelRunner.forward`.
    """
    encoded = encode_continuations(prompts, continuations)
    by_number = dict(pair for row in forward(continuation_sums, encoded) for pair in row)
    numbers = iter(range(len(by_number)))
    return [[by_number[next(numbers)] for _ in choices] for choices in continuations]


def _offsets(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Where each row of these lengths starts in their concatenation, and the total, for log-likelihoods."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
