"""The one interface of tasks: load -> encode -> collate -> predict -> score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from red_cli.tasks.data import Rows
from red_cli.tasks.splits import PaperCut


@dataclass(frozen=True)
class Encoded:
    """A split as token ids, stored flat: row i is `ids[offsets[i]:offsets[i + 1]]`.

    Attributes:
        features: name of a model input (input_ids, token_type_ids) -> int32 array of all tokens.
        offsets: int64, (rows + 1,).
        labels: (rows,), class ids (int64) or numbers (float32); None where the split has no labels.
        truncated: how many rows were cut to the longest length allowed.
    """

    features: dict[str, NDArray[np.int32]]
    offsets: NDArray[np.int64]
    labels: NDArray[Any] | None
    truncated: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def row(self, index: int, feature: str = "input_ids") -> NDArray[np.int32]:
        return self.features[feature][self.offsets[index] : self.offsets[index + 1]]


@dataclass
class Batch:
    """Tensors of some rows: `inputs` (rows, longest), `labels` or None; `weight`: labelled items in it."""

    inputs: dict[str, Tensor]
    labels: Tensor | None
    weight: int

    def to(self, device: torch.device) -> Batch:
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()}
        return Batch(inputs, None if self.labels is None else self.labels.to(device, non_blocking=True), self.weight)


@dataclass(frozen=True)
class Prediction:
    """The answer to one row, as it is written to `predictions/`."""

    prediction: str | float
    label: str | float | None
    probability: float | None = None

    def to_json(self, index: int) -> dict[str, Any]:
        values = {"index": index, "prediction": self.prediction, "label": self.label}
        return values if self.probability is None else {**values, "probability": self.probability}


class Task(Protocol):
    """What a task must offer. Rows come in as columns; nothing here knows of training."""

    metric: str  # chooses the best checkpoint; higher is better
    metrics: tuple[str, ...]  # all that are reported
    validation_splits: tuple[str, ...]  # reported after training; the first chooses the best checkpoint
    paper_cut: PaperCut | None  # where the rows that choose and the rows that are scored are cut as in the paper

    @property
    def label_names(self) -> list[str] | None:
        """In the order of class ids; None for regression."""

    def split_names(self) -> list[str]:
        """The splits that there are; nothing is read yet."""

    def load(self, seed: int, needed: Sequence[str]) -> dict[str, Rows]:
        """The splits `needed`; label names are known afterwards."""

    def has_labels(self, rows: Rows) -> bool:
        """Whether the split can be scored."""

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Token ids and labels of a split."""

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> Batch:
        """The rows `indices`, padded to the longest of them."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum of the losses of the batch's labelled items, float32."""

    def predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        """The answers for a batch; nothing larger than they are is kept."""

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Every metric of the task over labelled predictions."""
