"""Texts that carry the tokens that encoding adds to them anyway: they are encoded as if they did not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from red_cli.tasks.special_ids import Affixes


@dataclass(frozen=True)
class Marks:
    """The texts of the tokens that encoding adds around a prompt and after a completion; empty for none.

    A text that carries one of them already is encoded as if it did not.
    """

    before: str
    after: str
    end: str

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, affixes: Affixes, end: int | None) -> Marks:
        """The marks of a tokenizer: its affixes, and the token that ends a completion."""
        return cls(
            _text_of(tokenizer, affixes.before),
            _text_of(tokenizer, affixes.after),
            "" if end is None else _text_of(tokenizer, [end]),
        )

    def prompts(self, texts: list[str]) -> list[str]:
        """Prompts without the affixes of a prompt."""
        return [self.prompt(text) for text in texts] if self.before or self.after else texts

    def prompt(self, text: str) -> str:
        """A prompt without the affixes of a prompt."""
        return without_end(without_start(text, self.before), self.after)

    def completions(self, texts: list[str]) -> list[str]:
        """Completions without the end that is added to each."""
        return [without_end(text, self.end) for text in texts] if self.end else texts

    def messages(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Messages without the end of a turn; the first also without `before`, with which the template begins."""
        return [
            {**message, "content": bare} if bare != message["content"] else message
            for place, message in enumerate(messages)
            for bare in [without_end(without_start(message["content"], "" if place else self.before), self.end)]
        ]

    def carried(self, prompts: Sequence[str], completions: Sequence[str]) -> dict[str, int]:
        """What texts carry -> how many do: prompts that begin with a mark, completions that end with one."""
        counts = {
            f"prompts that begin with {self.before}": sum(without_start(text, self.before) != text for text in prompts),
            f"prompts that end with {self.after}": sum(without_end(text, self.after) != text for text in prompts),
            f"completions that end with {self.end}": sum(without_end(text, self.end) != text for text in completions),
        }
        return {what: count for what, count in counts.items() if count}

    def carried_by_turns(self, texts: Iterable[str]) -> dict[str, int]:
        """What the texts of conversations carry -> how many do."""
        count = sum(without_end(text, self.end) != text for text in texts)
        return {f"turns that end with {self.end}": count} if count else {}


def without_start(text: str, start: str) -> str:
    """A text without `start` at its beginning, however often it is there."""
    while start and text.startswith(start):
        text = text[len(start) :]
    return text


def without_end(text: str, end: str) -> str:
    """A text without the special text `end` at its end, however often it is there, and without spaces around it."""
    while end and end in text and (bare := text.rstrip() if end.strip() else text).endswith(end):
        text = bare[: -len(end)]
    return text


def _text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text that the tokenizer reads as just these ids; empty if there is none."""
    text = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False) if ids else ""
    for candidate in (text, text.replace(" ", "")):
        if candidate and tokenizer(candidate, add_special_tokens=False)["input_ids"] == list(ids):
            return candidate
    return ""
