"""The instruction task: conversations whose assistant turns count towards the loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from red_cli.errors import UserError
from red_cli.limits import limited_often
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.tasks.base import Base, Encoded, TokenPreview
from red_cli.tasks.chat.chat_template import ChatTemplate
from red_cli.tasks.chat.conversations import (
    Conversation,
    are_answered,
    column_of_answers,
    columns_of,
    first_conversations,
    read_conversations,
)
from red_cli.tasks.chat.examples import Examples
from red_cli.tasks.chat.messages import Observed
from red_cli.tasks.chat.split_reader import SplitReader
from red_cli.tasks.data.bad_rows import check_truncation, without_bad_rows
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Splits
from red_cli.tasks.data.texts import TextMaker, TextsOfRows
from red_cli.tasks.special_ids import Affixes, SpecialIds, padding_id
from red_cli.tasks.special_texts import Marks
from red_cli.tasks.text.encoded_texts import EncodedTexts
from red_cli.tasks.text.encoder import TextEncoder
from red_cli.tasks.text.task import TextTask


@dataclass(frozen=True, kw_only=True)
class InstructionTask(TextTask):
    """A conversation -> the assistant's turns.

    Attributes:
        template: the chat template, as the recipe chooses it.
        train_on_prompt: whether every token counts towards the loss.
        examples: the first conversation of each split that was read, with its source: a template may refuse others.
    """

    template: TemplateChoice
    train_on_prompt: bool = False
    examples: dict[str, Conversation] = field(default_factory=dict, compare=False)

    @property
    def label_column(self) -> str:
        """The column that counts towards the loss, as far as it is known before rows are read."""
        return column_of_answers(self.data.columns)

    def load(self, seed: int, needed: Sequence[str]) -> Splits:
        """Read the splits `needed`.

        Raises:
            UserError: a file or split is missing, unreadable or empty, or has no conversations.
        """
        splits = super().load(seed, needed)
        for rows in splits.rows.values():
            for conversation in first_conversations(rows, self.data.columns):
                self.examples[rows.source] = conversation
        return splits

    def has_labels(self, rows: Rows, label_names: list[str] | None) -> bool:
        """Whether the conversations of a split end with answers."""
        return are_answered(rows, self.data.columns)

    def bind(self, base: Base, label_names: list[str] | None) -> InstructionEncoder:
        """The task's encoder for a base.

        Raises:
            UserError: the tokenizer has no chat template, or the template fails or does not end the assistant's turns.
        """
        template = ChatTemplate.of(self.template, base.tokenizer, list(self.examples.values()))
        return InstructionEncoder(
            task=self,
            base=base,
            special_ids=SpecialIds(template.end, padding_id(base.tokenizer)),
            affixes=Affixes([], []),
            template=template,
        )


@dataclass(frozen=True, kw_only=True)
class InstructionEncoder(TextEncoder):
    """Rows of conversations -> batches -> generated answers."""

    task: InstructionTask
    template: ChatTemplate

    @property
    def multi_turn(self) -> bool:
        """A chat keeps its earlier messages."""
        return True

    def chat_ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The token ids that the answer to messages is generated from."""
        text = self.template.prompts([Conversation(self.marks.messages(messages))])[0]
        return list(self.base.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(self, rows: Rows) -> EncodedTexts:
        """Token ids of conversations and the loss mask of the assistant's turns.

        A conversation is one example, or several if the template rewrites earlier turns when others follow.
        data.too_long decides whether a conversation of more than max_length tokens is cut, refused or left out,
        data.bad_rows whether rows that cannot be used are refused or left out.

        Raises:
            UserError: rows cannot be used, or are too long, and that is refused; or no token of an answer is left in a
                row.
        """
        data, max_length = self.task.data, self.base.max_length
        examples = Examples(max_length, data.max_prompt_length, drop=data.too_long == "drop")
        reader = SplitReader(self.template, self.marks, rows, data.columns)
        with limited_often():
            for chats in reader.chunks():
                examples.add([(row, chat) for row, chat, _, _ in chats])
        self._require_usable(rows, reader)
        self._require_kept(rows, examples)
        check_truncation(data, rows, len(examples.cut), min(examples.cut, default=0), max_length)
        if reader.answered:
            self._require_answers(examples, rows)
        encoded_rows = np.array(examples.rows, dtype=np.int64)
        every = np.array_equal(encoded_rows, np.arange(rows.table.num_rows))
        kept = rows if every else rows.take(encoded_rows.tolist())
        arrays = examples.arrays(reader.answered, whole=self.task.train_on_prompt)
        texts = {name: TextsOfRows(kept, make, arrays["numbers"]) for name, make in self.text_makers().items()}
        return EncodedTexts(
            **arrays,
            prompts=texts["prompts"],
            completions=texts["completions"] if reader.answered else None,
            truncated=len(examples.cut),
            ends_cut=len(examples.cut),
            kept=None if every else encoded_rows,
            left_out={**reader.left_out(), **examples.left_out},
            rows=kept,
            notes=tuple(reader.notes()),
        )

    def text_makers(self) -> dict[str, TextMaker]:
        """How the prompts of last answers, and these, are made from rows, by their fields in EncodedTexts."""
        return {
            "prompts": lambda rows, numbers: [prompt for prompt, _ in self._texts(rows, numbers)],
            "completions": lambda rows, numbers: [answer for _, answer in self._texts(rows, numbers)],
        }

    def _texts(self, rows: Rows, numbers: NDArray[np.int32]) -> list[tuple[str, str]]:
        """The prompt of the last answer, and this, of examples of encoded rows; a row of several is repeated."""
        indices = np.arange(rows.table.num_rows) if rows.source_indices is None else rows.source_indices
        _, first, where = np.unique(indices, return_index=True, return_inverse=True)
        texts: dict[int, list[tuple[str, str]]] = defaultdict(list)
        reader = SplitReader(self.template, self.marks, rows.take(first.tolist()), self.task.data.columns)
        with limited_often():
            for chats in reader.chunks():
                for row, _, prompt, answer in chats:
                    texts[row].append((prompt, answer))
        return [texts[row][number] for row, number in zip(where.tolist(), numbers.tolist(), strict=True)]

    @cached_property
    def marks(self) -> Marks:
        """The texts of the tokens that the template adds: the BOS token if it begins with it, and a turn's end."""
        tokenizer = self.base.tokenizer
        marks = Marks.of(tokenizer, Affixes([], []), self.special_ids.end)
        begins = tokenizer.bos_token or ""
        return replace(marks, before=begins if self.template.begins_with(begins) else "")

    def text_columns(self, rows: Rows) -> list[str]:
        """The columns of conversations."""
        return columns_of(rows, self.task.data.columns)

    def carried(self, rows: Rows) -> dict[str, int]:
        """What turns carry though the template adds it -> how many do."""
        read = read_conversations(rows, self.task.data.columns, slice(0, rows.table.num_rows), Observed())
        conversations = [each for each in read if isinstance(each, Conversation)]
        return self.marks.carried_by_turns(message["content"] for each in conversations for message in each.messages)

    def show(self, encoded: Encoded, index: int) -> TokenPreview:
        """A conversation and its loss mask."""
        assert isinstance(encoded, EncodedTexts)
        assert encoded.loss_mask is not None
        mask = encoded.loss_mask[encoded.offsets[index] : encoded.offsets[index + 1]]
        return TokenPreview(encoded.row(index).tolist(), int(encoded.prompt_lengths[index]), None, mask.tolist())

    def _require_usable(self, rows: Rows, reader: SplitReader) -> None:
        """Refuse rows that cannot be used, unless data.bad_rows drops them; a template that fits no row is at fault."""
        if len(reader.template_faults) == rows.table.num_rows:
            first = reader.template_faults[0]
            raise UserError("invalid-template", f"{rows.place(0)}: {first.message}", hint=first.hint)
        without_bad_rows(rows, "the split", reader.faults, self.task.data.bad_rows)

    def _require_kept(self, rows: Rows, examples: Examples) -> None:
        if not examples.rows:
            reasons = examples.left_out
            raise UserError(
                "no-rows",
                f"{rows.source}: no row is left: all {reasons.total():,} are too long, the first has "
                f"{next(iter(reasons))}",
                hint="Raise data.max_length or data.max_prompt_length.",
            )

    def _require_answers(self, examples: Examples, rows: Rows) -> None:
        """Check that some token of an answer is left in every row."""
        if lost := examples.lost:
            have = "row has" if len(lost) == 1 else "rows have"
            raise UserError(
                "too-long",
                f"{rows.source}: {len(lost):,} {have} no token of an answer within {self.base.max_length:,} tokens, the"
                f" first is row {rows.numbers(lost[:1])}",
                hint="Raise data.max_length, or leave out such rows: data.too_long=drop",
            )
