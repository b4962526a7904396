"""Classification and regression of one text or a pair, on any data of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from red_cli.edit.kinds import SEQUENCE_CLASSIFIER, Kind
from red_cli.errors import UserError, shown
from red_cli.recipe.data import Data
from red_cli.tasks.base import Batch, Encoded, Passes, Prediction, Shown
from red_cli.tasks.data.loading import divide, read_splits, require_uncut, split_names
from red_cli.tasks.data.splits import PaperCut
from red_cli.tasks.data.tables import Rows
from red_cli.tasks.labels.answers import Answers, Labels
from red_cli.tasks.text.tokens import padding_id

_TEXT_COLUMNS = ("text", "sentence")
_ENCODE_ROWS = 1000


@dataclass
class SequenceTask:
    """One text or a pair of texts -> a label or a number."""

    data: Data
    answers: Answers
    metrics: tuple[str, ...]
    metric: str
    validation_splits: tuple[str, ...] = ("validation",)
    paper_cut: PaperCut | None = None
    kind: Kind = SEQUENCE_CLASSIFIER
    pad_token_id: int = 0
    pad_token_type_id: int = 0

    @property
    def label_names(self) -> list[str] | None:
        return self.answers.names

    @property
    def label_column(self) -> str:
        return self.data.columns.label or "label"

    def split_names(self) -> list[str]:
        """The splits that there are; nothing is read yet."""
        names = split_names(self.data, self.label_column)
        return names if self.paper_cut is None else self.paper_cut.with_parts(names)

    def load(self, seed: int, needed: Sequence[str]) -> dict[str, Rows]:
        """Read the `needed` splits; learn label names from the training split where they are not known.

        Raises:
            UserError: a file or split is missing, unreadable, empty or too small to cut, or a label column is missing.
        """
        if self.paper_cut is None:
            return self._official(seed, needed)
        official = self.paper_cut.sources(needed, self.split_names(), str(self.data.path or self.data.train))
        return self.paper_cut.apply(self._official(seed, official), needed, seed)

    def _official(self, seed: int, needed: Sequence[str]) -> dict[str, Rows]:
        """The `needed` splits as the data have them, or with validation rows drawn from the training rows."""
        learning = isinstance(self.answers, Labels) and self.answers.names is None
        splits = read_splits(self.data, self.label_column, needed, with_train=learning)
        if "train" in splits:
            self.answers.learn(splits["train"], self.label_column)
        return divide(splits, self.data, seed)

    def has_labels(self, rows: Rows) -> bool:
        """Whether a split has its label column, and does not hide it: null, empty, or -1 as in the Hub's GLUE."""
        if self.label_column not in rows.table.column_names:
            return False
        hidden = [None, ""] if "-1" in (self.label_names or ()) else [None, "", -1, "-1"]
        return any(value not in hidden for value in rows.column(self.label_column))

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise as the tokenizer lays out one text or a pair, the longer part cut first, to `max_length` tokens.

        Raises:
            UserError: a column is missing, a text is null, a label is null or unknown (the row is named).
        """
        self.pad_token_id = padding_id(tokenizer)
        self.pad_token_type_id = tokenizer.pad_token_type_id
        texts = self._texts(rows)
        least = tokenizer.num_special_tokens_to_add(pair=len(texts) > 1) + len(texts)
        if max_length < least:
            raise UserError(f"data.max_length is {max_length}; no text fits into fewer than {least} tokens")
        names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
        flat: dict[str, list[NDArray[np.int32]]] = {name: [] for name in names}
        lengths: list[int] = []
        cut: list[int] = []
        for start in range(0, rows.table.num_rows, _ENCODE_ROWS):
            chunk = [column[start : start + _ENCODE_ROWS] for column in texts]
            encoded = tokenizer(*chunk, truncation=True, max_length=max_length, return_attention_mask=False)
            cut += [start + row for row, encoding in enumerate(encoded.encodings or [], 1) if encoding.overflowing]
            lengths += [len(ids) for ids in encoded["input_ids"]]
            for name in names:
                flat[name].append(np.fromiter((token for ids in encoded[name] for token in ids), dtype=np.int32))
        require_uncut(self.data, rows, len(cut), min(cut, default=0), max_length)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        features = {name: np.concatenate(parts) for name, parts in flat.items()}
        return Encoded(features, offsets, self._labels(rows), len(cut))

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> Batch:
        lengths = encoded.lengths[indices]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        inputs = {"attention_mask": torch.from_numpy(mask.astype(np.int64))}
        for name in encoded.features:
            padding = self.pad_token_id if name == "input_ids" else self.pad_token_type_id
            values = np.full(mask.shape, padding, dtype=np.int64)
            values[mask] = np.concatenate([encoded.row(index, name) for index in indices])
            inputs[name] = torch.from_numpy(values)
        labels = None if encoded.labels is None else torch.from_numpy(encoded.labels[indices])
        return Batch(inputs, labels, weight=len(indices))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        return self.answers.loss(model(**batch.inputs).logits.float(), batch.labels)

    def answer(self, encoded: Encoded, passes: Passes, final: bool) -> list[Prediction]:
        return passes.forward(self._predict)

    def show(self, encoded: Encoded, index: int) -> Shown:
        assert encoded.labels is not None
        ids, label = encoded.row(index).tolist(), encoded.labels[index].item()
        return Shown(ids, len(ids), self.label_names[label] if self.label_names else label)

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        predicted = [answer.prediction for answer in predictions]
        actual = [answer.label for answer in predictions]
        return self.answers.score(self.metrics, predicted, actual)

    def _predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        logits = model(**batch.inputs).logits.float()
        return self.answers.predict(logits, None if batch.labels is None else batch.labels.tolist())

    def _texts(self, rows: Rows) -> list[list[str]]:
        columns = self.data.columns
        first = columns.text or next((name for name in _TEXT_COLUMNS if name in rows.table.column_names), "text")
        names = [first] if columns.text_pair is None else [first, columns.text_pair]
        texts = []
        for name in names:
            values = rows.column(name)
            for index, value in enumerate(values):
                if not isinstance(value, str):
                    what = "is null" if value is None else f"is {shown(value)}, not text"
                    raise UserError(f"{rows.source}, row {rows.number(index)}: column {shown(name)} {what}")
            texts.append(values)
        return texts

    def _labels(self, rows: Rows) -> NDArray[np.generic] | None:
        return self.answers.encode(rows, self.label_column) if self.has_labels(rows) else None
