"""A chat template at work: conversations -> token ids, and which of them the assistant says.

No library gives an exact loss mask for templates that do not mark the assistant's turns.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from red_cli.errors import UserError, first_line
from red_cli.limits import LimitReached, limited, limited_often
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.recipe.tasks.instruction import OWN
from red_cli.tasks.chat.conversations import Conversation, without_answer
from red_cli.tasks.special_ids import find_affixes

_MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
# A text longer than this is no conversation written down: tokenising it would take minutes
_LONGEST_FRAME = 1_000_000  # characters around the messages
_MOST_COPIES = 10  # of each message
_PROBE: Conversation = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "a"})

# Stanford Alpaca: github.com/tatsu-lab/stanford_alpaca, train.py. A system message takes the place of its opening
# sentences; later turns of a conversation, of which the source has none, follow without them.
_ALPACA = (
    "{%- set given = (messages | selectattr('role', 'equalto', 'user') | first).input -%}"
    "{%- if messages[0].role != 'system' -%}"
    "{{ 'Below is an instruction that describes a task'"
    " + (', paired with an input that provides further context' if given else '')"
    " + '. Write a response that appropriately completes the request.\\n\\n' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}"
    "{%- elif message.role == 'user' -%}"
    "{{ '\\n\\n' if loop.previtem is defined and loop.previtem.role == 'assistant' else '' }}"
    "{{ '### Instruction:\\n' + message.content + '\\n\\n' }}"
    "{{ '### Input:\\n' + message.input + '\\n\\n' if message.input else '' }}"
    "{{ '### Response:' }}"
    "{%- else -%}{{ message.content + eos_token }}{%- endif -%}"
    "{%- endfor -%}"
)

# The RED paper's published code, llama.py: "Human: {prompt}\n\nAssistant: {answer}". The space before an answer is of
# the answer here: as a token of the prompt it would be one that the running text, which is trained on, does not have.
_HUMAN_ASSISTANT = (
    "{%- for message in messages -%}"
    "{{ '\\n\\n' if loop.previtem is defined and message.role == 'user' else '' }}"
    "{%- if message.role == 'user' -%}{{ 'Human: ' + message.content + '\\n\\nAssistant:' }}"
    "{%- elif message.role == 'assistant' -%}{{ ' ' + message.content + eos_token }}"
    "{%- else -%}{{ message.content }}{%- endif -%}"
    "{%- endfor -%}"
)

TEMPLATES = {"alpaca": _ALPACA, "human-assistant": _HUMAN_ASSISTANT}
TAKES_INPUT = ("alpaca",)  # has a place of its own for an instruction's input


@dataclass(frozen=True)
class TokenizedChat:
    """A conversation as token ids.

    Attributes:
        ids: of all of the conversation.
        loss_mask: which of them the assistant says, its end's token included.
        prompt_length: tokens before the first of these.
        prompt: the text that the assistant's last turn is generated from.
    """

    ids: list[int]
    loss_mask: list[bool]
    prompt_length: int
    prompt: str

    @classmethod
    def of(cls, ids: list[int], loss_mask: list[bool], prompt: str) -> TokenizedChat:
        """A conversation whose prompt ends where the assistant's first turn begins."""
        return cls(ids, loss_mask, loss_mask.index(True) if True in loss_mask else len(ids), prompt)


@dataclass(frozen=True)
class ChatTemplate:
    """How conversations are written for a model, and what ends a turn of the assistant.

    Attributes:
        text: Jinja, or None for the tokenizer's own template.
        takes_input: whether an instruction's input has a place of its own; elsewhere it follows the instruction.
        special: ids that write nothing.
        ends: ids of which one ends a turn of the assistant.
    """

    tokenizer: PreTrainedTokenizerBase
    text: str | None
    variables: dict[str, Any]
    takes_input: bool
    special: frozenset[int]
    ends: frozenset[int]

    @classmethod
    def of(cls, choice: TemplateChoice, tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
        """The template that a recipe asks for.

        Raises:
            UserError: the tokenizer has none of its own, or the template fails or ends no turn.
        """
        text = None if choice.template == OWN else template_text(choice.template, tokenizer)
        if text is None and not tokenizer.chat_template:
            raise UserError(
                "invalid-template",
                f"{tokenizer.name_or_path} has no chat template of its own",
                hint=f"Choose another: task.template={' | '.join(TEMPLATES)} | a Jinja file.",
            )
        special = frozenset({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder} - {tokenizer.unk_token_id})
        template = cls(tokenizer, text, dict(choice.variables), choice.template in TAKES_INPUT, special, special)
        return replace(template, ends=frozenset({template._find_end()}))

    @property
    def end(self) -> int:
        """The id of the token that ends a turn of the assistant."""
        (end,) = self.ends
        return end

    def render(self, conversation: Conversation, ask: bool, where: str = "") -> str:
        """A conversation as text; `ask` adds what a turn of the assistant begins with.

        Raises:
            UserError: the template fails, or takes too long or too much memory; its line is named where it is known.
        """
        messages = self._messages(conversation)
        try:
            with limited():
                text = str(
                    self.tokenizer.apply_chat_template(
                        messages, chat_template=self.text, tokenize=False, add_generation_prompt=ask,
                        **self.variables,
                    )
                )  # fmt: skip
        except Exception as error:  # whatever the template's own code runs into
            raise _template_fault(error, where) from None
        given = sum(len(part) for message in messages for part in message.values())
        if len(text) > _LONGEST_FRAME + _MOST_COPIES * given:
            fault = LimitReached(f"writes {len(text):,} characters for a conversation of {given:,}")
            raise _template_fault(fault, where)
        return text

    def prompts(self, conversations: Sequence[Conversation], sources: Sequence[str]) -> list[str]:
        """What the assistant's next turn is generated from, as text."""
        with limited_often():
            pairs = zip(conversations, sources, strict=True)
            return [self.render(each, ask=True, where=where) for each, where in pairs]

    def encode(self, conversations: Sequence[Conversation], sources: Sequence[str]) -> list[TokenizedChat]:
        """Token ids of conversations, and which of them count towards the loss.

        Where the template marks what the assistant says ({% generation %}), its marks are taken. Elsewhere a turn goes
        from the end of what it would be generated from to the token that ends it, found by rendering the conversation's
        beginnings. Where a beginning's own tokens do not begin those of all of it, the parts are tokenised separately:
        what is generated from has the same tokens as in training.

        Args:
            sources: what to call each in messages.

        Raises:
            UserError: the template fails on one, or writes earlier turns in another way once others follow.
        """
        with limited_often():
            if _MARKS_ANSWERS.search(self.tokenizer.get_chat_template(self.text)):
                return [self._marked(each, where) for each, where in zip(conversations, sources, strict=True)]
            cuts = [self._cuts(each, where) for each, where in zip(conversations, sources, strict=True)]
        texts = list(dict.fromkeys(text for parts in cuts for text in parts))
        tokens = dict(zip(texts, self.tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
        return [self._turns(parts, tokens, where) for parts, where in zip(cuts, sources, strict=True)]

    def _messages(self, conversation: Conversation) -> list[dict[str, str]]:
        messages = [dict(message) for message in conversation]
        for message in messages:
            if "input" in message and not self.takes_input:
                message["content"] = f"{message['content']}\n\n{message.pop('input')}"
        return messages

    def _cuts(self, conversation: Conversation, where: str) -> list[str]:
        """Ever longer beginnings of a conversation's text, up to all of it: before an answer, after it, and so on."""
        whole = self.render(conversation, ask=False, where=where)
        cuts: list[str] = []
        for place, message in enumerate(conversation):
            if message["role"] != "assistant":
                continue
            before = self.render(conversation[:place], ask=True, where=where)
            rendered = self.render(conversation[: place + 1], ask=False, where=where)
            through = _common_beginning(rendered, whole)
            kept = through.startswith(before) and before.startswith(cuts[-1] if cuts else "")
            if not kept or not self._says_nothing(self._ids(rendered[len(through) :])):
                raise UserError(
                    "invalid-template",
                    f"{where}, message {place + 1}: the chat template writes what comes before it in another way once"
                    " the conversation goes on, so what the assistant says cannot be told",
                    hint="Mark it with {% generation %} in a template of your own (task.template), or leave out system "
                    "messages where the template moves them.",
                )
            cuts += [before, through]
        return cuts if cuts and cuts[-1] == whole else [*cuts, whole]

    def _turns(self, cuts: list[str], tokens: dict[str, list[int]], where: str) -> TokenizedChat:
        ids: list[int] = []
        mask: list[bool] = []
        whole, done = tokens[cuts[-1]], ""
        running = all(whole[: len(tokens[text])] == tokens[text] for text in cuts)
        for number, text in enumerate(cuts):
            part = whole[len(ids) : len(tokens[text])] if running else self._ids(text[len(done) :])
            answer = number % 2 == 1
            said = self._length_of_answer(part, where) if answer else 0
            ids += part
            mask += [True] * said + [False] * (len(part) - said)
            done = text
        return TokenizedChat.of(ids, mask, cuts[max(0, 2 * (len(cuts) // 2) - 2)])

    def _length_of_answer(self, part: list[int], where: str) -> int:
        """How many tokens of what the template writes for a turn are the assistant's: up to its end's, and with it.

        The end is the first token that may be one of those that only special tokens and spaces follow.
        """
        ends = [place for place in range(len(part)) if part[place] in self.ends]
        while len(ends) > 1 and not self._says_nothing(part[ends[0] + 1 :]):
            ends.pop(0)
        if not ends or not self._says_nothing(part[ends[0] + 1 :]):
            raise UserError(
                "invalid-template",
                f"{where or 'the chat template'}: no special token ends a turn of the assistant, so a model would not"
                " learn to stop",
                hint="End it with {{ eos_token }} in a template of your own: task.template=<file>",
            )
        return ends[0] + 1

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _says_nothing(self, ids: list[int]) -> bool:
        """Whether token ids are special ones and spaces alone."""
        return not self.tokenizer.decode([token for token in ids if token not in self.special]).strip()

    def _marked(self, conversation: Conversation, where: str) -> TokenizedChat:
        """By the template's own marks."""
        self.render(conversation, ask=False, where=where)  # within bounds: the tokenizer's threads cannot be bounded
        try:
            encoded = self.tokenizer.apply_chat_template(
                self._messages(conversation), chat_template=self.text, return_dict=True,
                return_assistant_tokens_mask=True, **self.variables,
            )  # fmt: skip
        except Exception as error:  # whatever the template's own code runs into
            raise _template_fault(error, where) from None
        prompt = self.render(without_answer(conversation), ask=True, where=where)
        mask = [bool(said) for said in encoded["assistant_masks"]]
        return TokenizedChat.of(list(encoded["input_ids"]), mask, prompt)

    def _find_end(self) -> int:
        chat = self.encode([_PROBE], [""])[0]
        said = [token for token, is_said in zip(chat.ids, chat.loss_mask, strict=True) if is_said]
        return said[self._length_of_answer(said, "") - 1]


def template_text(template: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The Jinja text of a template; a named one begins as the tokenizer begins every text."""
    if template not in TEMPLATES:
        return template
    begins = find_affixes(tokenizer).before == [tokenizer.bos_token_id]
    return ("{{ bos_token }}" if begins else "") + TEMPLATES[template]


def _common_beginning(text: str, other: str) -> str:
    """What two texts begin with alike."""
    length = next((place for place, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), len(text))
    return text[: min(length, len(other))]


def _template_fault(error: Exception, where: str) -> UserError:
    """A failing template: the line of its text, and the reason."""
    line = getattr(error, "lineno", None)
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == "<template>" or frame.filename == "<unknown>":
            line = frame.lineno
    place = "the chat template" + (f", line {line}" if line else "")
    reason = first_line(error)
    if isinstance(error, RecursionError):
        reason = "it calls itself without end, or nests too deeply"
    return UserError(
        "invalid-template", f"{where + ': ' if where else ''}{place}: {reason}", hint="Change the row, or the template."
    )
