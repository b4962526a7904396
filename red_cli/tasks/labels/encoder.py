"""Encode one text or a pair; a head predicts a label or a number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from red_cli.edit.pass_without_cache import output_without_cache
from red_cli.errors import UserError
from red_cli.recipe.sections import Data
from red_cli.recipe.tasks.base import TEXT_COLUMNS
from red_cli.recipe.template import template_fields
from red_cli.tasks.base import Base, Batch, Encoded, ModelRunner, Prediction, TokenPreview, moved
from red_cli.tasks.data.bad_rows import check_truncation, text_faults, without_bad_rows
from red_cli.tasks.data.growing import GrowingArray, offsets_of
from red_cli.tasks.data.rows import CHUNK_ROWS, Rows
from red_cli.tasks.data.texts import filled_texts
from red_cli.tasks.labels.targets import Target, has_targets
from red_cli.tasks.special_ids import find_affixes
from red_cli.tasks.special_texts import Marks


@dataclass(frozen=True)
class LabelEncoder:
    """Rows of a text or a pair -> batches -> predictions of a head.

    Attributes:
        target: has its label names, unless labels are numbers.
        prompt_template: the text with columns in braces; None: the text columns.
        class_weights: how much the rows of each class count in the loss, by class id; None: all alike.
    """

    base: Base
    data: Data
    target: Target
    prompt_template: str | None = None
    class_weights: tuple[float, ...] | None = None

    def encode(self, rows: Rows) -> Encoded:
        """Tokenise one text or a pair; too long rows are truncated to max_length, the longer text first.

        Raises:
            UserError: a column is missing, a text is null, or a label is null or unknown.
        """
        tokenizer, max_length = self.base.tokenizer, self.base.max_length
        columns = self.text_columns(rows)
        texts = 1 if self.prompt_template is not None else len(columns)
        least = tokenizer.num_special_tokens_to_add(pair=texts > 1) + texts
        if max_length < least:
            raise UserError("too-long", f"data.max_length is {max_length}; no text fits into fewer than {least} tokens")
        labels = self._labels(rows)
        kinds = str if self.prompt_template is None else (str, int, float)
        without_bad_rows(rows, "", text_faults(rows, columns, kinds), "refuse")
        names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
        ids = {name: GrowingArray(np.int32) for name in names}
        lengths = GrowingArray(np.int64)
        truncated = first_cut = 0
        for number, chunk in enumerate(rows.chunks()):
            encoded = tokenizer(
                *self._texts(chunk, columns), truncation=True, max_length=max_length, return_attention_mask=False
            )
            cut = [row for row, encoding in enumerate(encoded.encodings or []) if encoding.overflowing]
            if cut and not truncated:
                first_cut = number * CHUNK_ROWS + cut[0]
            truncated += len(cut)
            lengths.extend([len(row) for row in encoded["input_ids"]])
            for name in names:
                ids[name].extend_rows(encoded[name])
        check_truncation(self.data, rows, truncated, first_cut, max_length)
        features = {name: found.finish() for name, found in ids.items()}
        return Encoded(features, offsets_of(lengths.finish()), labels, truncated)

    @cached_property
    def marks(self) -> Marks:
        """The texts of the tokens that encoding adds."""
        return Marks.of(self.base.tokenizer, find_affixes(self.base.tokenizer), None)

    def text_columns(self, rows: Rows) -> list[str]:
        """The columns of the text or the pair."""
        if self.prompt_template is not None:
            return [name for name in template_fields(self.prompt_template) if name in rows.table.column_names]
        return text_columns(self.data, rows)

    def input_texts(self, rows: Rows) -> list[list[str]]:
        """The texts of rows as they are tokenised, column by column."""
        return self._texts(rows, self.text_columns(rows))

    def carried(self, rows: Rows) -> dict[str, int]:
        """What texts carry though encoding adds it -> how many do."""
        return self.marks.carried(
            [text for column in self._given_texts(rows, self.text_columns(rows)) for text in column], []
        )

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
        if self.class_weights is None or labels is None:
            return Batch(inputs, labels, weight=len(indices))
        return Batch(inputs, labels, weight=sum(self.class_weights[label] for label in labels.tolist()))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum of the rows' losses, each times the weight of its class, float32."""
        assert batch.labels is not None
        logits = output_without_cache(model, batch.inputs).logits.float()
        if self.class_weights is None:
            return self.target.loss(logits, batch.labels)
        weights = moved(torch.tensor(self.class_weights, dtype=logits.dtype), logits.device)
        return functional.cross_entropy(logits, batch.labels, weight=weights, reduction="sum")

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
        logits = output_without_cache(model, batch.inputs).logits.float()
        return self.target.predict(logits, None if batch.labels is None else batch.labels.tolist())

    def _texts(self, rows: Rows, columns: list[str]) -> list[list[str]]:
        return [self.marks.prompts(column) for column in self._given_texts(rows, columns)]

    def _given_texts(self, rows: Rows, columns: list[str]) -> list[list[str]]:
        if self.prompt_template is not None:
            return [filled_texts(rows, self.prompt_template)]
        return [rows.column(name) for name in columns]

    def _labels(self, rows: Rows) -> NDArray[np.generic] | None:
        column = label_column(self.data)
        return self.target.encode(rows, column) if has_targets(rows, column, self.target.names) else None


def text_columns(data: Data, rows: Rows) -> list[str]:
    """The columns to encode for a head: that of one text, and that of the second text of a pair."""
    first = data.columns.text or next((name for name in TEXT_COLUMNS if name in rows.table.column_names), "text")
    return [first] if data.columns.text_pair is None else [first, data.columns.text_pair]


def label_column(data: Data) -> str:
    """The column that the encoder reads labels from."""
    return data.columns.label or "label"
