"""Labels and numbers as text, written by an encoder-decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.errors import UserError, shown
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Data
from red_cli.recipe.tasks.base import LabelSettings
from red_cli.tasks.base import Base, Encoded, Generated, ModelRunner, Prediction, TokenPreview
from red_cli.tasks.data.rows import CHUNK_ROWS, Rows
from red_cli.tasks.labels.encoder import LabelEncoder
from red_cli.tasks.labels.targets import Target
from red_cli.tasks.special_ids import Affixes, SpecialIds, find_affixes, find_special_ids, text_without_special_ids
from red_cli.tasks.text.encoded_texts import (
    EncodedTexts,
    TextBatch,
    TextsBuilder,
    TruncatedExample,
    collate_texts,
)
from red_cli.tasks.text.token_loss import losses_of

_NUMBER_TOKENS = 16  # most tokens of a generated number


@dataclass(frozen=True)
class AnswerTexts:
    """How labels and numbers are written as text.

    Attributes:
        label_texts: the text of each label, in the order of class ids; None: the label names.
        decimals: digits after the decimal point.
        prompt_template: the encoder's input with columns in braces; None: the text or the pair.
        max_new_tokens: most tokens of an answer; None: those of the longest label.
    """

    label_texts: list[str] | None = None
    decimals: int = 1
    prompt_template: str | None = None
    max_new_tokens: int | None = None


def answer_texts(
    recipe: Recipe,
    settings: LabelSettings,
    config: PretrainedConfig,
    label_texts: list[str] | None = None,
    decimals: int = 1,
) -> AnswerTexts | None:
    """How answers are written as text if task.text_to_text is set; None if a head predicts them.

    Raises:
        UserError: the base is not an encoder-decoder.
    """
    if not settings.text_to_text:
        return None
    if not config.is_encoder_decoder:
        raise UserError(
            "unsupported-model",
            f"task.text_to_text is for encoder-decoders; {config.model_type} is not one",
            hint="Leave it out: other bases predict with a head.",
        )
    return AnswerTexts(label_texts, decimals, settings.prompt_template, recipe.eval.max_new_tokens)


@dataclass(frozen=True, kw_only=True)
class TextToTextEncoder(LabelEncoder):
    """Rows of a text or a pair -> batches for an encoder-decoder -> generated labels or numbers.

    Attributes:
        written: label name -> token ids of its text, with the end token.
        by_text: decoded text of a label -> label name.
    """

    texts: AnswerTexts
    special_ids: SpecialIds
    affixes: Affixes
    written: dict[str, list[int]]
    by_text: dict[str, str]

    @property
    def longest_label(self) -> int:
        """Tokens of the longest label; 0 for numbers."""
        return max(map(len, self.written.values()), default=0)

    def encode(self, rows: Rows) -> EncodedTexts:
        """Token ids of the text or pair for the encoder, and of the answer for the decoder.

        Raises:
            UserError: as `LabelEncoder.encode`; or the tokenizer cannot write a number.
        """
        inputs = super().encode(rows)
        labels: Sequence[Any] = [None] * len(inputs) if inputs.labels is None else inputs.labels.tolist()
        answers = {label: self._written(label) for label in set(labels) - {None}}
        built = TextsBuilder()
        for start in range(0, len(inputs), CHUNK_ROWS):
            chunk = enumerate(labels[start : start + CHUNK_ROWS], start)
            built.add(
                [
                    TruncatedExample(inputs.row(index).tolist(), answers.get(label, []), False, False)
                    for index, label in chunk
                ]
            )
        features, offsets, prompt_lengths = built.finish()
        return EncodedTexts(
            features=features,
            offsets=offsets,
            labels=None if inputs.labels is None else np.diff(offsets) - prompt_lengths,
            truncated=inputs.truncated,
            prompt_lengths=prompt_lengths,
            rows=rows,
        )

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> TextBatch:
        """The rows `indices`, padded to the longest of them."""
        assert isinstance(encoded, EncodedTexts)
        batch = collate_texts(encoded, indices, self.base.kind, self.special_ids, train_on_prompt=False)
        if self.class_weights is None or encoded.labels is None:
            return batch
        of_rows = [self._weight_of_answer[tuple(encoded.parts(index)[1].tolist())] for index in indices.tolist()]
        weights = torch.tensor(of_rows)[batch.owners]
        return replace(batch, token_weights=weights, weight=float(weights.double().sum()))

    @cached_property
    def _weight_of_answer(self) -> dict[tuple[int, ...], float]:
        assert self.class_weights is not None
        return {tuple(ids): weight for ids, weight in zip(self.written.values(), self.class_weights, strict=True)}

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The sum of the losses of the answers' tokens, each times the weight of its row's class, float32."""
        losses = losses_of(model, batch)
        return losses.sum() if batch.token_weights is None else (losses * batch.token_weights).sum()

    def answer(self, encoded: Encoded, runner: ModelRunner, final: bool) -> list[Prediction]:
        """Generate a text for each row and read it as a label or a number; `prediction` is None if it is neither."""
        assert isinstance(encoded, EncodedTexts)
        most = self.texts.max_new_tokens or self.longest_label or _NUMBER_TOKENS
        if most < self.longest_label:
            raise UserError(
                "too-long", f"eval.generation.max_new_tokens is {most}, but a label takes {self.longest_label} tokens"
            )
        prompts = [encoded.parts(index)[0].tolist() for index in range(len(encoded))]
        labels = self._labels(encoded.rows)
        truths = [None] * len(prompts) if labels is None else [self._named(label) for label in labels.tolist()]
        texts = runner.generate(prompts, self.special_ids, most)
        return [Prediction(self._read(text), truth, text=text.text) for text, truth in zip(texts, truths, strict=True)]

    def show(self, encoded: Encoded, index: int) -> TokenPreview:
        """A row with its label."""
        assert isinstance(encoded, EncodedTexts)
        labels = self._labels(encoded.rows.take([index]))
        assert labels is not None
        named = self._named(labels[0].item())
        return TokenPreview(encoded.row(index).tolist(), int(encoded.prompt_lengths[index]), named)

    def _written(self, label: Any) -> list[int]:
        """The answer's token ids, with the end token."""
        if self.target.names is not None:
            return self.written[self.target.names[label]]
        text = f"{round(label, self.texts.decimals) + 0.0:.{self.texts.decimals}f}"  # no -0.0
        ids = _ids(text, self.base.tokenizer, self.affixes, self.special_ids)
        read = _read_back(ids, self.base.tokenizer)
        if _number(read) != float(text):
            raise UserError(
                "unsupported-tokenizer", f"the tokenizer cannot write the number {text}: it reads back {shown(read)}"
            )
        return ids

    def _read(self, text: Generated) -> str | float | None:
        return _number(text.text) if self.target.names is None else self.by_text.get(_plain(text.text))


def bind_text_to_text(base: Base, data: Data, target: Target, texts: AnswerTexts) -> TextToTextEncoder:
    """The encoder of a task whose answers are written as text.

    Raises:
        UserError: the tokenizer cannot write a label's text, or two label texts become the same.
    """
    special_ids = find_special_ids(base.tokenizer, base.config, base.kind, None)
    affixes = find_affixes(base.tokenizer)
    written, by_text = {}, dict[str, str]()
    if target.names is not None:
        label_texts = texts.label_texts or target.names
        if len(label_texts) != len(target.names):
            raise UserError(
                "labels-mismatch",
                f"task.label_texts has {len(label_texts)} texts for {len(target.names)} labels",
                hint=f"Labels: {target.names}",
            )
        for name, text in zip(target.names, label_texts, strict=True):
            written[name] = _ids(text, base.tokenizer, affixes, special_ids)
        by_text = _names_by_text(dict(zip(target.names, label_texts, strict=True)), written, base.tokenizer)
    return TextToTextEncoder(
        base, data, target, texts.prompt_template, texts=texts, special_ids=special_ids, affixes=affixes,
        written=written, by_text=by_text,
    )  # fmt: skip


def score_texts(target: Target, metrics: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, float]:
    """The metrics, and the number of texts that are not an answer; such a text counts as wrong."""
    actual: list[Any] = [answer.label for answer in predictions]
    predicted = [
        _wrong(target.names, answer.label, actual) if answer.prediction is None else answer.prediction
        for answer in predictions
    ]
    failed = "no_number" if target.names is None else "no_label"
    return {
        **target.score(metrics, predicted, actual),
        failed: sum(answer.prediction is None for answer in predictions),
    }


def _names_by_text(
    texts: dict[str, str], written: dict[str, list[int]], tokenizer: PreTrainedTokenizerBase
) -> dict[str, str]:
    """Decoded text of a label -> label name."""
    unknown, hint = tokenizer.unk_token_id, "Choose other texts: task.label_texts"
    names: dict[str, str] = {}
    for name, ids in written.items():
        read = _read_back(ids, tokenizer)
        if not read or (unknown is not None and unknown in ids):
            raise UserError(
                "unsupported-tokenizer", f"the tokenizer cannot write the label text {shown(texts[name])}", hint=hint
            )
        if read in names:
            both = f"{shown(texts[names[read]])} and {shown(texts[name])}"
            raise UserError("labels-mismatch", f"label texts {both} are the same after tokenisation", hint=hint)
        names[read] = name
    return names


def _ids(text: str, tokenizer: PreTrainedTokenizerBase, affixes: Affixes, special_ids: SpecialIds) -> list[int]:
    """The token ids of a label's text as the decoder writes it, with the affix and the end token."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    while ids[-1:] == [special_ids.end]:  # a text may carry the end that every answer gets
        ids.pop()
    return [*affixes.before, *ids, special_ids.end]


def _read_back(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The label text that token ids decode to, with single spaces."""
    return _plain(text_without_special_ids(tokenizer, ids))


def _wrong(names: list[str] | None, label: Any, actual: Sequence[Any]) -> Any:
    """What a text that is no label or number counts as: the next label, or the farther extreme of `actual`."""
    if names is not None:
        return names[(names.index(label) + 1) % len(names)]
    return max(min(actual), max(actual), key=lambda end: abs(end - label))


def _plain(text: str) -> str:
    """A label's written text with single spaces and none around it."""
    return " ".join(text.split())


def _number(text: str) -> float | None:
    """The number in a text; None if it is not a number. Tokenizers may decode digits with spaces around them."""
    try:
        number = float("".join(text.split()))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
