"""The instruction task: conversations whose assistant turns count towards the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from red_cli.errors import UserError
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.tasks.base import Base, Encoded, TokenPreview
from red_cli.tasks.chat.chat_template import ChatTemplate, TokenizedChat
from red_cli.tasks.chat.conversations import Conversation, are_answered, columns_of, conversations_of, label_column
from red_cli.tasks.data.loading import check_truncation
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.found_tokens import texts_in
from red_cli.tasks.special_ids import Affixes, SpecialIds, padding_id
from red_cli.tasks.special_texts import Marks
from red_cli.tasks.text.encoder import TextEncoder
from red_cli.tasks.text.language import EncodedTexts
from red_cli.tasks.text.task import TextTask

_ENCODE_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class InstructionTask(TextTask):
    """A conversation -> the assistant's turns.

    Attributes:
        template: the chat template, as the recipe chooses it.
        train_on_prompt: whether every token counts towards the loss.
    """

    template: TemplateChoice
    train_on_prompt: bool = False

    @property
    def label_column(self) -> str:
        """The column that counts towards the loss, as far as it is known before rows are read."""
        return label_column(self.data.columns)

    def has_labels(self, rows: Rows, label_names: list[str] | None) -> bool:
        """Whether the conversations of a split end with answers."""
        return are_answered(conversations_of(rows, self.data.columns))

    def bind(self, base: Base, label_names: list[str] | None) -> InstructionEncoder:
        """The task's encoder for a base.

        Raises:
            UserError: the tokenizer has no chat template, or the template fails or does not end the assistant's turns.
        """
        template = ChatTemplate.of(self.template, base.tokenizer)
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
        text = self.template.prompts([self.marks.messages(messages)], ["what was said"])[0]
        return list(self.base.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(self, rows: Rows) -> EncodedTexts:
        """Token ids of conversations and the loss mask of the assistant's turns.

        data.too_long decides whether a conversation of more than max_length tokens is cut, refused or left out.

        Raises:
            UserError: a conversation is invalid, the template fails, a row is too long and that is refused, or no token
                of an answer is left in a row.
        """
        max_length = self.base.max_length
        conversations = [self.marks.messages(each) for each in conversations_of(rows, self.task.data.columns)]
        answered = are_answered(conversations)
        sources = [f"{rows.source}, row {rows.number(row)}" for row in range(rows.table.num_rows)]
        chats: list[TokenizedChat] = []
        for start in range(0, len(conversations), _ENCODE_ROWS):
            chunk = slice(start, start + _ENCODE_ROWS)
            tokenize = self.template.encode if answered else self._prompts
            chats += tokenize(conversations[chunk], sources[chunk])
        kept, left_out = self._filter(chats, rows)
        cut = [row for row in kept if len(chats[row].ids) > max_length]
        check_truncation(self.task.data, rows, len(cut), rows.number(min(cut, default=0)), max_length)
        if answered:
            self._require_answers(chats, kept, rows)
        ids = [chats[row].ids[:max_length] for row in kept]
        mask = np.fromiter((said for row in kept for said in chats[row].loss_mask[:max_length]), np.bool_)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in ids])]).astype(np.int64)
        if self.task.train_on_prompt:
            mask[:] = True
        mask[offsets[:-1]] = False  # nothing precedes the first token
        return EncodedTexts(
            features={"input_ids": np.fromiter((token for part in ids for token in part), np.int32)},
            offsets=offsets,
            labels=np.add.reduceat(mask.astype(np.int64), offsets[:-1]) if answered else None,
            truncated=len(cut),
            ends_cut=len(cut),
            kept=np.array(kept, dtype=np.int64) if left_out else None,
            left_out=left_out,
            prompt_lengths=np.array([chats[row].prompt_length for row in kept], dtype=np.int64),
            rows=rows.take(kept) if left_out else rows,
            prompts=[chats[row].prompt for row in kept],
            completions=[conversations[row][-1]["content"] for row in kept] if answered else None,
            loss_mask=mask,
        )

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
        return self.marks.carried_by_turns(texts_in(rows, self.text_columns(rows)))

    def show(self, encoded: Encoded, index: int) -> TokenPreview:
        """A conversation and its loss mask."""
        assert isinstance(encoded, EncodedTexts)
        assert encoded.loss_mask is not None
        mask = encoded.loss_mask[encoded.offsets[index] : encoded.offsets[index + 1]]
        return TokenPreview(encoded.row(index).tolist(), int(encoded.prompt_lengths[index]), None, mask.tolist())

    def _prompts(self, conversations: Sequence[Conversation], sources: Sequence[str]) -> list[TokenizedChat]:
        """Encode conversations that are to be answered."""
        prompts = self.template.prompts(conversations, sources)
        ids = self.base.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        return [TokenizedChat.of(part, [False] * len(part), prompt) for part, prompt in zip(ids, prompts, strict=True)]

    def _filter(self, chats: Sequence[TokenizedChat], rows: Rows) -> tuple[list[int], dict[str, int]]:
        """The indices of kept rows, and reason -> number of rows left out."""
        kept, reasons = [], []
        data, max_length = self.task.data, self.base.max_length
        longest_prompt = data.max_prompt_length
        for row, chat in enumerate(chats):
            if longest_prompt is not None and chat.prompt_length > longest_prompt:
                reasons.append(f"a prompt of more than {longest_prompt:,} tokens")
            elif data.too_long == "drop" and len(chat.ids) > max_length:
                reasons.append(f"more than {max_length:,} tokens")
            else:
                kept.append(row)
        if not kept:
            raise UserError(
                "no-rows",
                f"{rows.source}: no row is left: all {len(reasons):,} are too long, the first has {reasons[0]}",
                hint="Raise data.max_length or data.max_prompt_length.",
            )
        return kept, {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}

    def _require_answers(self, chats: Sequence[TokenizedChat], kept: Sequence[int], rows: Rows) -> None:
        """Check that some token of an answer is left in every row."""
        lost = [row for row in kept if not any(chats[row].loss_mask[1 : self.base.max_length])]
        if lost:
            have = "row has" if len(lost) == 1 else "rows have"
            raise UserError(
                "too-long",
                f"{rows.source}: {len(lost):,} {have} no token of an answer within {self.base.max_length:,} tokens, the"
                f" first is row {rows.number(lost[0])}",
                hint="Raise data.max_length, or leave out such rows: data.too_long=drop",
            )
