"""The one interface of tasks: load -> encode -> collate -> loss -> answer -> score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.edit.kinds import Kind
from red_cli.tasks.data.splits import PaperCut
from red_cli.tasks.data.tables import Rows
from red_cli.tasks.text.tokens import Ends

T = TypeVar("T")


@dataclass(frozen=True)
class Base:
    """A base model without its weights, prepared for a task.

    Attributes:
        config: with the task's labels, the recipe's dropout and the padding id of batches.
        max_length: the longest sequence in tokens, as the recipe or the base limits it.
        kind: the class of model that is trained.
    """

    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    kind: Kind


@dataclass(frozen=True)
class Encoded:
    """A split as token ids, stored flat: row i is `ids[offsets[i]:offsets[i + 1]]`.

    Attributes:
        features: name of a model input (input_ids, token_type_ids) -> int32 array of all tokens.
        offsets: int64, (rows + 1,).
        labels: (rows,), class ids (int64) or numbers (float32); None where the split has no labels.
        truncated: how many rows were cut to the longest length allowed.
        ends_cut: how many of them lost their end, and with it the token that says that a text is complete.
        kept: which rows of the split these are, where some were left out; None: they are all.
        left_out: why rows were left out -> how many.
    """

    features: dict[str, NDArray[np.int32]]
    offsets: NDArray[np.int64]
    labels: NDArray[Any] | None
    truncated: int
    ends_cut: int = 0
    kept: NDArray[np.int64] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def row(self, index: int, feature: str = "input_ids") -> NDArray[np.int32]:
        return self.features[feature][self.offsets[index] : self.offsets[index + 1]]

    def kept_rows(self, split: str, rows: Rows) -> Rows:
        """Those of a split's `rows` that these are."""
        if self.kept is None:
            return rows
        reasons = " and ".join(f"{count:,} with {reason}" for reason, count in self.left_out.items())
        return rows.take(self.kept.tolist(), f"{rows.drawn or f'all of {split}'}, but {reasons}")


@dataclass
class Batch:
    """Tensors of some rows: `inputs` (rows, longest), `labels` or None; `weight`: labelled items in it."""

    inputs: dict[str, Tensor]
    labels: Tensor | None
    weight: int

    def to(self, device: torch.device) -> Batch:
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()}
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return replace(self, inputs=inputs, labels=labels)


@dataclass(frozen=True)
class Prediction:
    """The answer to one row, as it is written to `predictions/`; what is None there does not exist for the task.

    Attributes:
        label: what is right, as far as it is known: a label, a number, a text.
        prompt: what a text was generated from.
        text: what was generated, where it stands for a label or a number (prediction None: it is neither).
        finished: whether a generated text came to its end before the most tokens allowed.
        loss: the sum over the row's labelled tokens.
        tokens: how many those are.
    """

    prediction: str | float | None
    label: str | float | None
    probability: float | None = None
    prompt: str | None = None
    text: str | None = None
    finished: bool | None = None
    loss: float | None = None
    tokens: int | None = None

    def to_json(self, index: int) -> dict[str, Any]:
        extras = {name: getattr(self, name) for name in ("prompt", "text", "probability", "finished", "loss", "tokens")}
        values = {"index": index, "prediction": self.prediction, "label": self.label}
        return values | {name: value for name, value in extras.items() if value is not None}


@dataclass(frozen=True)
class Generated:
    """A text that a model wrote, and whether it came to its end before the most tokens allowed."""

    text: str
    finished: bool


class Passes(Protocol):
    """A model, a split, and the ways to have the one answer the other; the room above provides them."""

    @property
    def context(self) -> int:
        """The most tokens that the base takes at once."""

    def forward(self, predict: Callable[[nn.Module, Any], list[T]], encoded: Encoded | None = None) -> list[T]:
        """What `predict` says of batches, for all rows in their order; nothing larger than that is kept.

        The rows are the split's, or those of another encoding that the task collates.
        """

    def generate(self, prompts: Sequence[Sequence[int]], ends: Ends, max_new_tokens: int) -> list[Generated]:
        """What the model writes after each prompt, in their order."""

    def note(self, text: str) -> None:
        """One line that the user should see."""


@dataclass(frozen=True)
class Shown:
    """A row as `red check` shows it.

    Attributes:
        ids: its tokens.
        masked: how many of the first are not learnt.
        label: if it has one.
        learnt: which tokens are learnt, where those that are not come between as well; None: all after `masked`.
    """

    ids: list[int]
    masked: int
    label: str | float | None
    learnt: list[bool] | None = None


class Task(Protocol):
    """What a task must offer. Rows come in as columns; nothing here knows of training."""

    kind: Kind  # of the model that learns it
    metric: str  # chooses the best checkpoint
    metrics: tuple[str, ...]  # all that are reported
    validation_splits: tuple[str, ...]  # reported after training; the first chooses the best checkpoint
    paper_cut: PaperCut | None  # where the rows that choose and the rows that are scored are cut as in the paper

    @property
    def label_names(self) -> list[str] | None:
        """In the order of class ids; None for regression."""

    @property
    def label_column(self) -> str:
        """The column of what is to be learnt."""

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

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The sum of the losses of the batch's labelled items, float32."""

    def answer(self, encoded: Encoded, passes: Passes, final: bool) -> list[Prediction]:
        """The answers to all rows, in their order: by forward passes, by generation, or both.

        `final` asks for all that can be said, else what `metric` needs is enough: an evaluation on the way.
        """

    def show(self, encoded: Encoded, index: int) -> Shown:
        """A labelled row, to be looked at."""

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Every metric of the task over labelled predictions."""
