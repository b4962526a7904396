"""Conversations, of which the assistant's turns are learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from red_cli.errors import UserError
from red_cli.recipe.tasks.instruction import InstructionSettings
from red_cli.tasks.base import Encoded, Shown
from red_cli.tasks.chat.chat_template import ChatTemplate, Turns
from red_cli.tasks.chat.conversations import Conversation, are_answered, conversations_of, label_column, without_answer
from red_cli.tasks.data.loading import divide, require_uncut
from red_cli.tasks.data.streaming import read_stream
from red_cli.tasks.data.tables import Rows
from red_cli.tasks.text.generation import GenerationTask
from red_cli.tasks.text.language import EncodedTexts
from red_cli.tasks.text.tokens import Ends, Frame, padding_id

_ENCODE_ROWS = 1000


@dataclass(kw_only=True)
class InstructionTask(GenerationTask):
    """A conversation -> the assistant's turns.

    Attributes:
        stream_rows: how many training rows to take off a stream; None where the data are read whole.
    """

    instruction: InstructionSettings
    stream_rows: int | None = None
    template: ChatTemplate = field(init=False)

    @property
    def label_column(self) -> str:
        return label_column(self.data.columns)

    def load(self, seed: int, needed: Sequence[str]) -> dict[str, Rows]:
        """Read the `needed` splits; of a stream, as many training rows as the run takes.

        Raises:
            UserError: a file or split is missing, unreadable or empty.
        """
        if not self.data.streaming:
            return super().load(seed, needed)
        return divide(read_stream(self.data, needed, self.stream_rows, seed), self.data, seed)

    def has_labels(self, rows: Rows) -> bool:
        """Whether the conversations of a split have answers, rather than are to be answered."""
        return are_answered(conversations_of(rows, self.data.columns))

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedTexts:
        """Tokens of conversations by the chat template, and which of them the assistant says.

        A conversation of more than `max_length` tokens loses its end, is refused or is left out, as data.too_long says.

        Raises:
            UserError: a conversation is not one, the template fails, rows are too long where that is refused, or a row
                has no token of an answer left (the row is named).
        """
        self.tokenizer, self.max_length = tokenizer, max_length
        self.template = ChatTemplate.of(self.instruction.chat_template, tokenizer)
        self.ends, self.frame = Ends(self.template.end, padding_id(tokenizer)), Frame([], [])
        conversations = conversations_of(rows, self.data.columns)
        answered = are_answered(conversations)
        turns: list[Turns] = []
        for start in range(0, len(conversations), _ENCODE_ROWS):
            chunk = slice(start, start + _ENCODE_ROWS)
            turns += self._turns(conversations[chunk], self._sources(rows)[chunk], answered)
        kept, left_out = self._filter(turns, rows)
        fitted = [turns[row] for row in kept]
        cut = [row for row in kept if len(turns[row].ids) > max_length]
        require_uncut(self.data, rows, len(cut), rows.number(min(cut, default=0)), max_length)
        if answered:
            self._require_answers(turns, kept, rows)
        ids = [turn.ids[:max_length] for turn in fitted]
        learnt = np.fromiter((said for turn in fitted for said in turn.learnt[:max_length]), np.bool_)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in ids])]).astype(np.int64)
        if self.instruction.train_on_prompt:
            learnt[:] = True
        learnt[offsets[:-1]] = False  # nothing precedes the first token
        return EncodedTexts(
            features={"input_ids": np.fromiter((token for part in ids for token in part), np.int32)},
            offsets=offsets,
            labels=np.add.reduceat(learnt.astype(np.int64), offsets[:-1]) if answered else None,
            truncated=len(cut),
            ends_cut=len(cut),
            kept=np.array(kept, dtype=np.int64) if left_out else None,
            left_out=left_out,
            prompt_lengths=np.array([turn.prompt_length for turn in fitted], dtype=np.int64),
            rows=rows.take(kept) if left_out else rows,
            learnt=learnt,
        )

    def show(self, encoded: Encoded, index: int) -> Shown:
        assert isinstance(encoded, EncodedTexts)
        assert encoded.learnt is not None
        learnt = encoded.learnt[encoded.offsets[index] : encoded.offsets[index + 1]]
        return Shown(encoded.row(index).tolist(), int(encoded.prompt_lengths[index]), None, learnt.tolist())

    @property
    def _whole(self) -> bool:
        return False  # what is learnt is said token by token

    def _turns(self, conversations: Sequence[Conversation], sources: Sequence[str], answered: bool) -> list[Turns]:
        if answered:
            return self.template.encode(conversations, sources)
        prompts = self.tokenizer(self.template.prompts(conversations, sources), add_special_tokens=False)["input_ids"]
        return [Turns(ids, [False] * len(ids), len(ids)) for ids in prompts]

    def _filter(self, turns: Sequence[Turns], rows: Rows) -> tuple[list[int], dict[str, int]]:
        """The rows that are kept, and why the others are not."""
        kept, reasons = [], []
        longest_prompt = self.data.max_prompt_length
        for row, turn in enumerate(turns):
            if longest_prompt is not None and turn.prompt_length > longest_prompt:
                reasons.append(f"a prompt of more than {longest_prompt:,} tokens")
            elif self.data.too_long == "drop" and len(turn.ids) > self.max_length:
                reasons.append(f"more than {self.max_length:,} tokens")
            else:
                kept.append(row)
        if not kept:
            raise UserError(
                f"{rows.source}: no row is left: {len(reasons):,} have {reasons[0]} or the like",
                hint="Raise data.max_length or data.max_prompt_length.",
            )
        return kept, {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}

    def _require_answers(self, turns: Sequence[Turns], kept: Sequence[int], rows: Rows) -> None:
        """Refuse rows whose answers are wholly cut off."""
        lost = [row for row in kept if not any(turns[row].learnt[1 : self.max_length])]
        if lost:
            have = "row has" if len(lost) == 1 else "rows have"
            raise UserError(
                f"{rows.source}: {len(lost):,} {have} no token of an answer within {self.max_length:,} tokens, the"
                f" first is row {rows.number(lost[0])}",
                hint="Raise data.max_length, or leave such rows out: data.too_long=drop",
            )

    def _sources(self, rows: Rows) -> list[str]:
        return [f"{rows.source}, row {rows.number(row)}" for row in range(rows.table.num_rows)]

    def _texts(self, rows: Rows, part: str) -> list[str]:
        """What the last answers are generated from, or those answers."""
        conversations = conversations_of(rows, self.data.columns)
        if part == "completion":
            return [conversation[-1]["content"] for conversation in conversations]
        return self.template.prompts([without_answer(each) for each in conversations], self._sources(rows))

    def _completions(self, rows: Rows) -> list[str]:
        return self._texts(rows, "completion")
