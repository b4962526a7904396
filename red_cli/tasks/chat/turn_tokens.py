"""Texts of conversations -> token ids and a loss mask of the assistant's turns.

If the tokens of a beginning are not the first tokens of the whole, the parts are tokenised separately, so that a prompt
has the same tokens in training and generation. To see that, the beginnings need not be tokenised in full: special
tokens cut a text before it is tokenised, so that only the part after the last of them can differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from red_cli.tasks.chat.chat_template import ChatTemplate, Span, TemplateFault
from red_cli.tasks.chat.rendered_turns import RenderedTurns

_REMEMBERED = 64  # characters of the longest part whose tokens are remembered: rows share what stands between messages


@dataclass(frozen=True, slots=True)
class TokenizedChat:
    """A conversation as token ids.

    Attributes:
        ids: token ids of the conversation.
        turns: the first token of each turn that counts towards the loss, and the one after its end token.
    """

    ids: list[int]
    turns: list[Span]

    @property
    def prompt_length(self) -> int:
        """The number of tokens before the first that counts."""
        return self.turns[0][0] if self.turns else len(self.ids)


@dataclass(frozen=True)
class TurnTokenizer:
    """Tokenises texts of conversations, and finds the tokens of turns.

    Attributes:
        cuts: id -> text of the special tokens that cut a text wherever they stand; empty if some may not.
        remembered: part of a text after a special token -> its token ids.
    """

    template: ChatTemplate
    cuts: dict[int, str]
    remembered: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, template: ChatTemplate) -> TurnTokenizer:
        tokenizer = template.tokenizer
        added = tokenizer.added_tokens_decoder
        plain = tokenizer.is_fast and not tokenizer.split_special_tokens
        normalised = tokenizer.is_fast and tokenizer.backend_tokenizer.normalizer is not None
        for token in added.values():
            plain &= not (token.lstrip or token.rstrip or token.single_word or (token.normalized and normalised))
        return cls(template, {number: token.content for number, token in added.items()} if plain else {})

    def encode(self, rows: Sequence[RenderedTurns]) -> list[TokenizedChat | TemplateFault]:
        """Token ids of texts; a fault for one in which no special token ends a turn."""
        texts = [row.text for row in rows]
        if any(row.marked for row in rows):
            encodings = self.template.tokenizer(texts, add_special_tokens=False).encodings
            return [self._marked(row, encoding) for row, encoding in zip(rows, encodings, strict=True)]
        found: list[TokenizedChat | TemplateFault] = []
        for row, ids in zip(rows, self.ids(texts), strict=True):
            try:
                found.append(self._located(row, ids))
            except TemplateFault as fault:
                found.append(fault)
        return found

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of texts that have their special tokens."""
        tokenizer = self.template.tokenizer
        if not texts:
            return []
        if not self.cuts:
            return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"])
        tokenizer(texts[0], add_special_tokens=False)  # ends a truncation or padding that tokenizer.json may hold
        backend = tokenizer.backend_tokenizer
        return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _located(self, row: RenderedTurns, complete: list[int]) -> TokenizedChat:
        borders = [border for turn in row.turns for border in turn]
        places = self._places(row.text, complete, borders)
        if places is not None:
            turns = [
                (start, start + self._length(complete[start:stop]))
                for start, stop in zip(places[::2], places[1::2], strict=True)
            ]
            return TokenizedChat(complete, turns)
        ids: list[int] = []
        turns = []
        for number, (start, stop) in enumerate(zip([0, *borders], [*borders, len(row.text)], strict=True)):
            part = self.ids([row.text[start:stop]])[0] if stop > start else []
            if number % 2:
                turns.append((len(ids), len(ids) + self._length(part)))
            ids += part
        return TokenizedChat(ids, turns)

    def _places(self, text: str, complete: list[int], borders: Sequence[int]) -> list[int] | None:
        """The number of tokens before each of the characters `borders`; None if the tokens there are others."""
        special = [place for place, token in enumerate(complete) if token in self.cuts]
        places, character, passed = [], 0, 0  # the characters and special tokens before a border
        last, token = "", 0  # the last special token before it, and the number of tokens up to that
        for border in borders:
            while passed < len(special):
                content = self.cuts[complete[special[passed]]]
                end = text.find(content, character) + len(content)
                if end > border:
                    break
                character, last, token = end, content, special[passed] + 1
                passed += 1
            part = self._part(last, text[character:border])
            place = token + len(part)
            if complete[token:place] != part:
                return None
            places.append(place)
        return places

    def _part(self, last: str, text: str) -> list[int]:
        """The token ids of a text after a special token."""
        if not text:
            return []
        if len(text) > _REMEMBERED:
            return self._tokens_after(last, text)
        if (last, text) not in self.remembered:
            self.remembered[last, text] = self._tokens_after(last, text)
        return self.remembered[last, text]

    def _tokens_after(self, last: str, text: str) -> list[int]:
        if not self.cuts:
            return list(self.template.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = self.template.tokenizer.backend_tokenizer.encode(last + text, add_special_tokens=False).ids
        return list(ids[1:] if last else ids)

    def _length(self, part: list[int]) -> int:
        length = self.template.length_of_answer(part)
        if length is None:
            raise self.template.without_end()
        return length

    def _marked(self, row: RenderedTurns, encoding: Any) -> TokenizedChat | TemplateFault:
        """The tokens that lie in the template's own marks, or reach into them."""
        turns: list[Span] = []
        spans = iter(row.turns)
        span = next(spans, None)
        for place, (start, end) in enumerate(encoding.offsets):
            while span is not None and start >= span[1]:
                span = next(spans, None)
            if span is None:
                break
            if end > span[0]:
                if turns and turns[-1][1] == place:
                    turns[-1] = (turns[-1][0], place + 1)
                else:
                    turns.append((place, place + 1))
        ids = list(encoding.ids)
        if not any(self.template.special.intersection(ids[start:stop]) for start, stop in turns):
            return self.template.without_end()
        return TokenizedChat(ids, turns)
