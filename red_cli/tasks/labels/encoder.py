"""Encode one text or a pair; a head predicts a label or a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from red_cli.errors import UserError
from red_cli.recipe.sections import Data
from red_cli.recipe.tasks.base import TEXT_COLUMNS
from red_cli.tasks.base import Base, Batch, Encoded, ModelRunner, Prediction, TokenPreview
from red_cli.tasks.data.bad_rows import text_faults, without_bad_rows
from red_cli.tasks.data.loading import check_truncation
from red_cli.tasks.data.rows import Rows, filled_texts
from red_cli.tasks.labels.classes import is_hidden
from red_cli.tasks.labels.targets import Target

_ENCODE_ROWS = 1000


@dataclass(frozen=True)
class LabelEncoder:
    """Rows of a text or a pair -> batches -> predictions of a head.

    Attributes:
        target: has its label names, unless labels are numbers.
        prompt_template: the text with columns in braces; None: the text columns.
    """

    base: Base
    data: Data
    target: Target
    prompt_template: str | None = None

    def encode(self, rows: Rows) -> Encoded:
        """Tokenise one text or a pair; too long rows are truncated to max_length, the longer text first.

        Raises:
            UserError: a column is missing, a text is null, or a label is null or unknown.
        """
        tokenizer, max_length = self.base.tokenizer, self.base.max_length
        texts = self._texts(rows)
        least = tokenizer.num_special_tokens_to_add(pair=len(texts) > 1) + len(texts)
        if max_length < least:
            raise UserError("too-long", f"data.max_length is {max_length}; no text fits into fewer than {least} tokens")
        names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
        parts: dict[str, list[NDArray[np.int32]]] = {name: [] for name in names}
        lengths: list[int] = []
        cut: list[int] = []
        for start in range(0, rows.table.num_rows, _ENCODE_ROWS):
            chunk = [column[start : start + _ENCODE_ROWS] for column in texts]
            encoded = tokenizer(*chunk, truncation=True, max_length=max_length, return_attention_mask=False)
            cut += [start + row for row, encoding in enumerate(encoded.encodings or [], 1) if encoding.overflowing]
            lengths += [len(ids) for ids in encoded["input_ids"]]
            for name in names:
                parts[name].append(np.fromiter((token for ids in encoded[name] for token in ids), dtype=np.int32))
        check_truncation(self.data, rows, len(cut), min(cut, default=0), max_length)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        features = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        return Encoded(features, offsets, self._labels(rows), len(cut))

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> Batch:
        """The rows `indices`, padded to the longest of them."""
        base = self.base
        lengths = encoded.lengths[indices]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        inputs = {"attention_mask": torch.from_numpy(mask.astype(np.int64))}
        for name in encoded.features:
            padding = base.config.pad_token_id if name == "input_ids" else base.tokenizer.pad_token_type_id
            values = np.full(mask.shape, padding, dtype=np.int64)
            values[mask] = np.concatenate([encoded.row(index, name) for index in indices])
            inputs[name] = torch.from_numpy(values)
        labels = None if encoded.labels is None else torch.from_numpy(encoded.labels[indices])
        return Batch(inputs, labels, weight=len(indices))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum of the rows' losses, float32."""
        assert batch.labels is not None
        return self.target.loss(model(**batch.inputs).logits.float(), batch.labels)

    def answer(self, encoded: Encoded, runner: ModelRunner, final: bool) -> list[Prediction]:
        """The head's prediction for every row, by forward passes."""
        return runner.forward(self._predict)

    def show(self, encoded: Encoded, index: int) -> TokenPreview:
        """A row with its label."""
        assert encoded.labels is not None
        ids = encoded.row(index).tolist()
        return TokenPreview(ids, len(ids), self._named(encoded.labels[index].item()))

    def _named(self, label: int | float) -> str | float:
        return label if self.target.names is None else self.target.names[int(label)]

    def _predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        logits = model(**batch.inputs).logits.float()
        return self.target.predict(logits, None if batch.labels is None else batch.labels.tolist())

    def _texts(self, rows: Rows) -> list[list[str]]:
        if self.prompt_template is not None:
            return [filled_texts(rows, self.prompt_template)]
        names = text_columns(self.data, rows)
        without_bad_rows(rows, "", text_faults(rows, names), "refuse")
        return [rows.column(name) for name in names]

    def _labels(self, rows: Rows) -> NDArray[np.generic] | None:
        column = label_column(self.data)
        return self.target.encode(rows, column) if has_labels(rows, column, self.target.names) else None


def text_columns(data: Data, rows: Rows) -> list[str]:
    """The column of the text, and that of the second text of a pair."""
    first = data.columns.text or next((name for name in TEXT_COLUMNS if name in rows.table.column_names), "text")
    return [first] if data.columns.text_pair is None else [first, data.columns.text_pair]


def label_column(data: Data) -> str:
    """The column of the labels."""
    return data.columns.label or "label"


def has_labels(rows: Rows, column: str, names: list[str] | None) -> bool:
    """Whether rows have labels that are not hidden: null, empty, or -1 as in the Hub's GLUE."""
    if column not in rows.table.column_names:
        return False
    return not all(is_hidden(value, names) for value in rows.column(column))
