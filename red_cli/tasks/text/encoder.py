"""The common part of encoders of texts: batches, loss and generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from red_cli.errors import UserError
from red_cli.recipe.tasks.base import DEFAULT_NEW_TOKENS
from red_cli.tasks.base import Base, Encoded, Generated, ModelRunner, Prediction, TokenPreview
from red_cli.tasks.data.splits import check_truncation
from red_cli.tasks.data.texts import TextMaker
from red_cli.tasks.special_ids import Affixes, SpecialIds
from red_cli.tasks.special_texts import Marks
from red_cli.tasks.text.encoded_texts import EncodedTexts, TextBatch, collate_texts, truncate
from red_cli.tasks.text.packing import Pack, collate_packs
from red_cli.tasks.text.task import OF_LOSSES, TextTask
from red_cli.tasks.text.token_ids import token_ids
from red_cli.tasks.text.token_loss import losses_of, row_losses


@dataclass(frozen=True, kw_only=True)
class TextEncoder(ABC):
    """The common part of encoders of prompts and completions.

    Attributes:
        affixes: the token ids before and after a prompt.
        train_on_prompt: whether the tokens of prompts count towards the loss.
    """

    task: TextTask
    base: Base
    special_ids: SpecialIds
    affixes: Affixes
    train_on_prompt: bool = False

    @cached_property
    def marks(self) -> Marks:
        """The texts of the tokens that encoding adds."""
        return Marks.of(self.base.tokenizer, self.affixes, self.special_ids.end)

    @abstractmethod
    def text_makers(self) -> dict[str, TextMaker]:
        """How prompts and completions are made from encoded rows, by the names of their fields in EncodedTexts."""

    def collate(self, encoded: Encoded, indices: NDArray[np.int64]) -> TextBatch:
        """The rows `indices`, padded to the longest of them."""
        assert isinstance(encoded, EncodedTexts)
        return collate_texts(encoded, indices, self.base.kind, self.special_ids, train_on_prompt=self.train_on_prompt)

    def collate_packed(self, encoded: Encoded, packs: Sequence[Pack]) -> TextBatch:
        """The rows of `packs`, one sequence for each pack."""
        assert isinstance(encoded, EncodedTexts)
        return collate_packs(encoded, packs, self.special_ids.padding, train_on_prompt=self.train_on_prompt)

    def loss(self, model: nn.Module, batch: TextBatch) -> Tensor:
        """The sum of the losses of the labelled tokens, float32."""
        return losses_of(model, batch).sum()

    def answer(self, encoded: Encoded, runner: ModelRunner, final: bool) -> list[Prediction]:
        """Compute losses if there are completions; generate texts with `final` or if `metric` needs them."""
        assert isinstance(encoded, EncodedTexts)
        answers = [Prediction(None, None)] * len(encoded) if encoded.labels is None else runner.forward(self._losses)
        labels = [None] * len(encoded) if encoded.completions is None else encoded.completions
        prompts = list(encoded.prompts)
        texts: Sequence[Generated | None] = [None] * len(encoded)
        if final or self.task.metric not in OF_LOSSES:
            texts = self._generate(encoded, prompts, runner, final)
        return [
            replace(answer, label=label, prompt=prompt)
            if text is None
            else replace(answer, label=label, prompt=prompt, prediction=text.text, finished=text.finished)
            for answer, label, prompt, text in zip(answers, labels, prompts, texts, strict=True)
        ]

    def show(self, encoded: Encoded, index: int) -> TokenPreview:
        """A row and the length of its masked prompt."""
        assert isinstance(encoded, EncodedTexts)
        masked = 0 if self.train_on_prompt else int(encoded.prompt_lengths[index])
        return TokenPreview(encoded.row(index).tolist(), masked, None)

    def new_tokens(self, context: int) -> int:
        """The most tokens of a generated text, for a base of this context."""
        return self.task.max_new_tokens or min(DEFAULT_NEW_TOKENS, max(1, context // 2))

    def _losses(self, model: nn.Module, batch: TextBatch) -> list[Prediction]:
        sums, tokens = row_losses(model, batch)
        pairs = zip(sums.tolist(), tokens.tolist(), strict=True)
        return [Prediction(None, None, loss=loss, tokens=count) for loss, count in pairs]

    def _generate(
        self, encoded: EncodedTexts, prompts: Sequence[str], runner: ModelRunner, final: bool
    ) -> list[Generated]:
        context, encoder_decoder = runner.context, self.base.kind.encoder_decoder
        wanted = self.new_tokens(context)
        limit = min(self.base.max_length, context if encoder_decoder else context - wanted)
        if limit < len(self.affixes) + 1:
            raise UserError(
                "too-long",
                f"eval.generation.max_new_tokens is {wanted}, but the base takes {context} tokens, prompt included",
            )
        ids = token_ids(self.base.tokenizer, prompts)
        examples = [
            truncate(prompt, None, self.affixes, self.special_ids.end, limit, encoder_decoder) for prompt in ids
        ]
        cut = [row for row, example in enumerate(examples) if example.truncated]
        check_truncation(self.task.data, encoded.rows, len(cut), min(cut, default=0), limit)
        if cut and final:
            runner.note(f"{len(cut):,} of {len(ids):,} prompts lost their beginning: longer than {limit:,} tokens.")
        return runner.generate([example.prompt for example in examples], self.special_ids, wanted)


@runtime_checkable
class ChatEncoder(Protocol):
    """An encoder that can encode chat messages, for decoders."""

    @property
    def special_ids(self) -> SpecialIds:
        """The special ids for generation."""

    @property
    def multi_turn(self) -> bool:
        """Whether a prompt includes earlier messages."""

    def chat_ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The token ids of the prompt that answers `messages`.

        Raises:
            UserError: prompts of the task consist of several texts.
        """
