"""Classification and regression by an encoder-decoder that writes the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from red_cli.edit.kinds import ENCODER_DECODER, Kind
from red_cli.errors import UserError, shown
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.base import LabelSettings
from red_cli.tasks.base import Encoded, Generated, Passes, Prediction, Shown
from red_cli.tasks.data.columns import filled_texts
from red_cli.tasks.data.tables import Rows
from red_cli.tasks.labels.classification import SequenceTask
from red_cli.tasks.text.language import Cut, EncodedTexts, TextBatch, collate_texts, flat, losses_of
from red_cli.tasks.text.tokens import Ends, Frame, decoded, find_ends, find_frame

_NUMBER_TOKENS = 16  # most tokens of a generated number


@dataclass(kw_only=True)
class TextToTextTask(SequenceTask):
    """One text or a pair of texts -> a label or a number, written as text.

    Attributes:
        label_texts: what is written for each label, in the order of class ids; None: its name.
        decimals: digits after the point of the numbers that are written.
        prompt_template: what the encoder reads; None: the text or the pair.
    """

    config: PretrainedConfig
    label_texts: list[str] | None
    decimals: int
    prompt_template: str | None
    max_new_tokens: int | None
    kind: Kind = ENCODER_DECODER
    ends: Ends = field(init=False)
    frame: Frame = field(init=False)
    tokenizer: PreTrainedTokenizerBase = field(init=False)
    by_text: dict[str, str] = field(init=False, default_factory=dict)  # a label as it is read back -> its name
    longest_label: int = field(init=False, default=0)

    @classmethod
    def of(cls, task: SequenceTask, **options: Any) -> TextToTextTask:
        """The same task, answered with texts."""
        same = {part.name: getattr(task, part.name) for part in fields(SequenceTask) if part.name != "kind"}
        return cls(**same, **options)

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedTexts:
        """Tokens of the text or pair for the encoder, and of the answer for the decoder.

        Raises:
            UserError: the rows are not right, or texts of answers cannot be told apart once they are generated.
        """
        self.tokenizer = tokenizer
        self.ends, self.frame = find_ends(tokenizer, self.config, self.kind, None), find_frame(tokenizer)
        if self.label_names is not None:
            self._read_back(self.label_names)
        inputs = super().encode(rows, tokenizer, max_length)
        prompts = [inputs.row(index).tolist() for index in range(len(inputs))]
        labels: Sequence[Any] = [None] * len(inputs) if inputs.labels is None else inputs.labels.tolist()
        written = {label: self._written(label) for label in set(labels) - {None}}
        features, offsets, prompt_lengths = flat(
            [
                Cut(prompt, [] if label is None else written[label], False, False)
                for prompt, label in zip(prompts, labels, strict=True)
            ]
        )
        return EncodedTexts(
            features=features,
            offsets=offsets,
            labels=None if inputs.labels is None else np.diff(offsets) - prompt_lengths,
            truncated=inputs.truncated,
            prompt_lengths=prompt_lengths,
            rows=rows,
        )

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> TextBatch:
        assert isinstance(encoded, EncodedTexts)
        return collate_texts(encoded, indices, self.kind, self.ends, whole=False)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return losses_of(model, batch).sum()

    def answer(self, encoded: Encoded, passes: Passes, final: bool) -> list[Prediction]:
        """What the model writes for each row, read as a label or a number: None where it is neither."""
        assert isinstance(encoded, EncodedTexts)
        most = self.max_new_tokens or self.longest_label or _NUMBER_TOKENS
        if most < self.longest_label:
            raise UserError(f"eval.generation.max_new_tokens is {most}, but a label takes {self.longest_label} tokens")
        prompts = [encoded.parts(index)[0].tolist() for index in range(len(encoded))]
        labels = self._labels(encoded.rows)
        truths = [None] * len(prompts) if labels is None else [self._named(label) for label in labels.tolist()]
        texts = passes.generate(prompts, self.ends, most)
        return [Prediction(self._read(text), truth, text=text.text) for text, truth in zip(texts, truths, strict=True)]

    def score(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """The metrics, an answer that is none counting as wrong, and how many of those there are."""
        actual: list[Any] = [answer.label for answer in predictions]
        predicted = [
            self._wrong(answer.label, actual) if answer.prediction is None else answer.prediction
            for answer in predictions
        ]
        scores = self.answers.score(self.metrics, predicted, actual)
        failed = "no_number" if self.label_names is None else "no_label"
        return {**scores, failed: sum(answer.prediction is None for answer in predictions)}

    def show(self, encoded: Encoded, index: int) -> Shown:
        assert isinstance(encoded, EncodedTexts)
        labels = self._labels(encoded.rows.take([index]))
        assert labels is not None
        return Shown(encoded.row(index).tolist(), int(encoded.prompt_lengths[index]), self._named(labels[0].item()))

    def _texts(self, rows: Rows) -> list[list[str]]:
        return super()._texts(rows) if self.prompt_template is None else [filled_texts(rows, self.prompt_template)]

    def _named(self, label: Any) -> str | float:
        return label if self.label_names is None else self.label_names[label]

    def _written(self, label: Any) -> list[int]:
        """The answer's tokens, with its end."""
        if self.label_names is not None:
            return self._ids((self.label_texts or self.label_names)[label])
        text = f"{round(label, self.decimals) + 0.0:.{self.decimals}f}"  # no -0.0
        ids = self._ids(text)
        if _number(self._decoded(ids)) != float(text):
            raise UserError(f"the tokenizer cannot write the number {text}: it reads back {shown(self._decoded(ids))}")
        return ids

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*self.frame.before, *ids, self.ends.end]

    def _decoded(self, ids: list[int]) -> str:
        return _plain(decoded(self.tokenizer, ids))

    def _read_back(self, names: list[str]) -> None:
        """Find out what each label's text is when it is read back."""
        texts, unknown = self.label_texts or names, self.tokenizer.unk_token_id
        hint = "Give other texts: task.label_texts"
        if len(texts) != len(names):
            raise UserError(f"task.label_texts has {len(texts)} texts for {len(names)} labels", hint=f"Labels: {names}")
        self.by_text, sources = {}, dict[str, str]()
        for name, text in zip(names, texts, strict=True):
            ids = self._ids(text)
            read = self._decoded(ids)
            if not read or (unknown is not None and unknown in ids):
                raise UserError(f"the tokenizer cannot write the label text {shown(text)}", hint=hint)
            if read in self.by_text:
                both = f"{shown(sources[read])} and {shown(text)}"
                raise UserError(f"label texts {both} cannot be told apart once they are generated", hint=hint)
            self.by_text[read], sources[read] = name, text
            self.longest_label = max(self.longest_label, len(ids))

    def _read(self, text: Generated) -> str | float | None:
        return _number(text.text) if self.label_names is None else self.by_text.get(_plain(text.text))

    def _wrong(self, label: Any, actual: Sequence[Any]) -> Any:
        """A wrong answer: the label after the right one, or whichever end of the right numbers is farther away."""
        if self.label_names is not None:
            return self.label_names[(self.label_names.index(label) + 1) % len(self.label_names)]
        return max(min(actual), max(actual), key=lambda end: abs(end - label))


def in_words(
    task: SequenceTask,
    recipe: Recipe,
    settings: LabelSettings,
    config: PretrainedConfig,
    label_texts: list[str] | None = None,
    decimals: int = 1,
) -> SequenceTask:
    """The task answered with texts where task.text_to_text says so, else as it is.

    Raises:
        UserError: the base is no encoder-decoder.
    """
    if not settings.text_to_text:
        return task
    if not config.is_encoder_decoder:
        raise UserError(
            f"task.text_to_text is for encoder-decoders; {config.model_type} is none",
            hint="Leave it out: other bases answer with a head.",
        )
    return TextToTextTask.of(
        task,
        config=config,
        label_texts=label_texts,
        decimals=decimals,
        prompt_template=settings.prompt_template,
        max_new_tokens=recipe.eval.max_new_tokens,
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


def _number(text: str) -> float | None:
    """The number that a text is; tokenizers may read signs back with spaces around them."""
    try:
        number = float("".join(text.split()))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
