"""The interface of tasks: Task (load, score), bound to a Base -> Encoder (encode, collate, loss, answer, show)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.edit.model_kinds import ModelKind
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.base import TaskSettings
from red_cli.tasks.data.paper_cut import SCORED, PaperCut
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Splits
from red_cli.tasks.special_ids import SpecialIds

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


@dataclass(frozen=True)
class Base:
    """What the interface of tasks knows of a base model: no weights, but all that is prepared for a task.

    Attributes:
        config: has the task's labels, the recipe's dropout and the padding id.
        max_length: most tokens of a sequence, limited by the recipe or the base.
        kind: the class of model that is trained.
    """

    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    kind: ModelKind


@dataclass(frozen=True)
class Encoded:
    """The interface of an encoded split: token ids, stored flat: row i is `ids[offsets[i]:offsets[i + 1]]`.

    Attributes:
        features: name of a model input (input_ids, token_type_ids) -> int32 array of all tokens.
        offsets: int64, (rows + 1,).
        labels: (rows,), class ids (int64) or numbers (float32); None if the split has no labels.
        truncated: number of rows cut to the maximum length.
        ends_cut: number of truncated rows that lost their end, and so their end token.
        kept: indices of the encoded rows in the split; None if all rows are encoded.
        left_out: reason -> number of rows left out.
        notes: what was changed, guessed or not read, for the user.
    """

    features: dict[str, NDArray[np.int32]]
    offsets: NDArray[np.int64]
    labels: NDArray[Any] | None
    truncated: int
    ends_cut: int = 0
    kept: NDArray[np.int64] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.offsets)

    def row(self, index: int, feature: str = "input_ids") -> NDArray[np.int32]:
        return self.features[feature][self.offsets[index] : self.offsets[index + 1]]

    def longest_inputs(self, encoder_decoder: bool) -> tuple[dict[str, int], int]:
        """Model input -> tokens of the longest row; and the most labelled tokens of a row."""
        return {"inputs_embeds": int(self.lengths.max())}, 0

    def kept_rows(self, split: str, rows: Rows) -> Rows:
        """The encoded ones of a split's `rows`; a row that is encoded as several is there as often."""
        if self.kept is None:
            return rows
        reasons = " and ".join(f"{count:,} with {reason}" for reason, count in self.left_out.items())
        but = f", but {reasons}" if reasons else ""
        return rows.take(self.kept.tolist(), f"{rows.selection or f'all of {split}'}{but}")


MASK = "attention_mask"  # among the inputs of a batch


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of a Batch on a device. Only CUDA copies asynchronously: MPS reads sources already freed."""
    return tensor.to(device, non_blocking=device.type == "cuda")


@dataclass
class Batch:
    """Tensors of some rows: `inputs` (rows, longest), `labels` or None; `weight` counts the labelled items.

    With class weights, `weight` is the sum of the items' weights.
    """

    inputs: dict[str, Tensor]
    labels: Tensor | None
    weight: float

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The batch with each of its tensors changed."""
        inputs = {name: change(tensor) for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, labels=None if self.labels is None else change(self.labels))

    def without_full_mask(self) -> Self:
        """The batch without its attention mask if nothing is padded: a model reads a mask from the device to see that.

        Outputs are the same, bit for bit, for every architecture of the table.
        """
        mask = self.inputs.get(MASK)
        if mask is None or not mask.all():
            return self
        return replace(self, inputs={name: tensor for name, tensor in self.inputs.items() if name != MASK})

    def to(self, device: torch.device) -> Self:
        """The batch on a device."""
        return self.map(lambda tensor: moved(tensor, device))

    def pinned(self) -> Self:
        """The batch in page-locked memory of the host, from which CUDA copies by itself."""
        return self.map(Tensor.pin_memory)


@dataclass(frozen=True)
class Prediction:
    """The prediction for one row, as `predictions/` holds it. Fields that the task does not use are None.

    Attributes:
        label: the right answer if it is known: a label, a number, a text.
        prompt: the text that the answer was generated from.
        text: the generated text that was read as a label or a number; `prediction` is None if it is neither.
        finished: whether a generated text ended within the maximum number of tokens.
        loss: the sum over the row's labelled tokens.
        tokens: the number of labelled tokens.
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
    """What a task's ModelRunner generates: a text, and whether it ended within the maximum number of tokens."""

    text: str
    finished: bool


class ModelRunner(Protocol):
    """Runs a model over a split, by forward passes or by generation; `red_cli.inference` implements it."""

    @property
    def context(self) -> int:
        """The most tokens that the base takes at once."""

    def forward(self, predict: Callable[[nn.Module, Any], list[T]], encoded: Encoded | None = None) -> list[T]:
        """Apply `predict` to batches of all rows and return the results in the rows' order; nothing else is kept.

        The rows are those of `encoded`, which the task can collate, or by default the split's.
        """

    def generate(self, prompts: Sequence[Sequence[int]], ends: SpecialIds, max_new_tokens: int) -> list[Generated]:
        """Generate a text for each prompt, in the prompts' order."""

    def note(self, text: str) -> None:
        """Show the user one line."""


@dataclass(frozen=True)
class TokenPreview:
    """What an Encoder shows of a row in `red check`.

    Attributes:
        ids: the row's token ids.
        masked: number of leading tokens that do not count towards the loss.
        label: the row's label, if it has one.
        loss_mask: which tokens count towards the loss; None if all after `masked` do.
    """

    ids: list[int]
    masked: int
    label: str | float | None
    loss_mask: list[bool] | None = None


class Task(Protocol):
    """Which rows there are, and how predictions are scored; independent of the base."""

    @property
    def kind(self) -> ModelKind:
        """The class of model that is trained."""

    @property
    def metric(self) -> str:
        """The metric that chooses the best checkpoint."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that are reported."""

    @property
    def validation_splits(self) -> tuple[str, ...]:
        """The splits that are scored after training; the first chooses the best checkpoint."""

    @property
    def paper_cut(self) -> PaperCut | None:
        """How the paper divides rows into a selection split and a scored split; None if it does not apply."""

    @property
    def label_column(self) -> str:
        """The column of the labels or completions."""

    def split_names(self) -> list[str]:
        """Names of the available splits; no data is read."""

    def load(self, seed: int, needed: Sequence[str]) -> Splits:
        """Read the splits `needed`, and find the label names if the rows define them."""

    def has_labels(self, rows: Rows, label_names: list[str] | None) -> bool:
        """Whether a split can be scored."""

    def classes(self, rows: Rows, label_names: list[str] | None) -> dict[str, int]:
        """Label -> number of rows, in the order of class ids; empty if answers are numbers or texts."""

    def bind(self, base: Base, label_names: list[str] | None) -> Encoder:
        """The task's encoder for a base, with the label names that `load` found."""

    def score(self, predictions: Sequence[Prediction], label_names: list[str] | None) -> dict[str, float]:
        """Every metric of the task over labelled predictions."""

    def generated_texts(self, predictions: Sequence[Prediction]) -> tuple[list[str], list[list[str]]]:
        """The texts that text metrics score and their references; both empty for a task without such texts."""


class Encoder(Protocol):
    """A task bound to a base: rows -> token ids -> batches -> loss and answers."""

    @property
    def base(self) -> Base:
        """The base that the task is bound to."""

    def encode(self, rows: Rows) -> Encoded:
        """Token ids and labels of a split."""

    def text_columns(self, rows: Rows) -> list[str]:
        """The columns of a split that texts are read from."""

    def carried(self, rows: Rows) -> dict[str, int]:
        """What the texts of rows carry though encoding adds it, such as an end token -> how many do."""

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> Batch:
        """The rows `indices`, padded to the longest of them."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The sum of the losses of the batch's labelled items, float32."""

    def answer(self, encoded: Encoded, runner: ModelRunner, final: bool) -> list[Prediction]:
        """Predict all rows, in their order, by forward passes, by generation, or both.

        `final` computes what every metric needs; otherwise only what `task.metric` needs is computed.
        """

    def show(self, encoded: Encoded, index: int) -> TokenPreview:
        """A labelled row, for `red check` to show."""


def scored_split(task: Task) -> str:
    """The split of a task whose score is the run's result."""
    return task.validation_splits[0] if task.paper_cut is None else SCORED


def chose_best(task: Task, split: str) -> Literal["all", "some", "none"]:
    """How many of a split's rows a Task of the interface used to choose the best evaluation: all, some or none."""
    if split == task.validation_splits[0]:
        return "all"
    cut = task.paper_cut
    return "some" if cut is not None and not cut.from_training and split == cut.validation else "none"


Builder = Callable[[Recipe, Any, PretrainedConfig, list[str] | None], Task]
BUILDERS: dict[type[TaskSettings], Builder] = {}


def builds(settings: type[TaskSettings]) -> Callable[[Builder], Builder]:
    """Register the function that makes the Task of these settings.

    The label names are those of a trained model, or None before training. A builder reads no data.
    """

    def register(builder: Builder) -> Builder:
        BUILDERS[settings] = builder
        return builder

    return register
