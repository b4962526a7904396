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
from red_cli.tasks.data.bad_rows import check_truncation
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.texts import TextMaker
from red_cli.tasks.special_ids import Affixes, SpecialIds
from red_cli.tasks.special_texts import Marks
from red_cli.tasks.text.encoded_texts import EncodedTexts, TextBatch, TruncatedExample, collate_texts
from red_cli.tasks.text.packing import Pack, collate_packs
from red_cli.tasks.text.task import OF_LOSSES, TextTask
from red_cli.tasks.text.token_ids import token_ids
from red_cli.tasks.text.token_loss import losses_of, row_losses


@dataclass(frozen=True)
class PromptsToAnswer:
    """Encoded prompts to answer: token ids, the most tokens of an answer, and how many were cut to `limit` tokens."""

    ids: list[list[int]]
    max_new_tokens: int
    cut: int
    limit: int


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
        """Compute losses if a metric needs them; generate texts with `final` or if `metric` needs them.

        With `final`, the metric that selected the best checkpoint needs none any more.
        """
        assert isinstance(encoded, EncodedTexts)
        needed = set(self.task.metrics if final else (*self.task.metrics, self.task.metric)) & {*OF_LOSSES}
        scored = encoded.labels is not None and needed
        answers = runner.forward(self._losses) if scored else [Prediction(None, None)] * len(encoded)
        labels = [None] * len(encoded) if encoded.completions is None else encoded.completions
        prompts = list(encoded.prompts)
        texts: Sequence[Generated | None] = [None] * len(encoded)
        if final or self.task.metric not in OF_LOSSES:
            texts = self._generate(prompts, encoded.rows, runner, final)
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

    def prompts_to_answer(self, prompts: Sequence[str], rows: Rows, context: int) -> PromptsToAnswer:
        """The token ids to generate answers from; a prompt that is too long loses its beginning.

        Args:
            rows: the rows of the prompts, for messages.
            context: the most tokens that the base takes at once.

        Raises:
            UserError: not even one token of a prompt fits, or prompts are too long and that is refused.
        """
        encoder_decoder = self.base.kind.encoder_decoder
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
        check_truncation(self.task.data, rows, len(cut), min(cut, default=0), limit)
        return PromptsToAnswer([example.prompt for example in examples], wanted, len(cut), limit)

    def _generate(self, prompts: Sequence[str], rows: Rows, runner: ModelRunner, final: bool) -> list[Generated]:
        fitted = self.prompts_to_answer(prompts, rows, runner.context)
        if fitted.cut and final:
            cut, total = f"{fitted.cut:,} of {len(fitted.ids):,}", f"{fitted.limit:,}"
            runner.note(f"{cut} prompts lost their beginning: longer than {total} tokens.")
        return runner.generate(fitted.ids, self.special_ids, fitted.max_new_tokens)


@runtime_checkable
class ChatEncoder(Protocol):
    """An encoder of texts that can also encode chat messages, for decoders."""

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


def truncate(
    prompt: list[int], completion: list[int] | None, affixes: Affixes, end: int, limit: int, separate: bool
) -> TruncatedExample:
    """Truncate prompt and completion before an encoder makes them one text of `limit` tokens, affixes and end included.

    The prompt loses tokens at its beginning, but keeps its last token. A completion that still does not fit loses its
    end and the end token, so that the model does not train to stop at the cut.

    Args:
        completion: None if unknown; the row is then the prompt only.
        limit: must exceed the number of affixes by at least 2.
        separate: whether the limit applies to each part, as for an encoder-decoder, or to both together.
    """
    answer = [] if completion is None else [*(affixes.before if separate else []), *completion, end]
    room = limit - len(affixes) - (0 if separate else len(answer))
    kept = prompt[len(prompt) - max(room, 1) :] if len(prompt) > max(room, 1) else prompt
    framed = [*affixes.before, *kept, *affixes.after]
    left = limit - (0 if separate else len(framed))
    end_truncated = left < len(answer)
    return TruncatedExample(framed, answer[:left], len(kept) < len(prompt) or end_truncated, end_truncated)
