"""Chat templates: conversations -> token ids and a loss mask of the assistant's turns.

The mask is computed here because libraries compute it only for templates that mark it with {% generation %}.
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
# Limits of a rendered text: a longer one is no conversation, and takes minutes to tokenise
_LONGEST_FRAME = 1_000_000  # characters around the messages
_MOST_COPIES = 10  # of each message
_PROBE: Conversation = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "a"})

# Stanford Alpaca: github.com/tatsu-lab/stanford_alpaca, train.py. A system message takes the place of its opening
# sentences. Later turns, which the source does not have, follow without them.
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

# The RED paper's published code, llama.py: "Human: {prompt}\n\nAssistant: {answer}". The space before an answer is part
# of the answer: at the end of the prompt it would be a token that the running text of the training does not have.
_HUMAN_ASSISTANT = (
    "{%- for message in messages -%}"
    "{{ '\\n\\n' if loop.previtem is defined and message.role == 'user' else '' }}"
    "{%- if message.role == 'user' -%}{{ 'Human: ' + message.content + '\\n\\nAssistant:' }}"
    "{%- elif message.role == 'assistant' -%}{{ ' ' + message.content + eos_token }}"
    "{%- else -%}{{ message.content }}{%- endif -%}"
    "{%- endfor -%}"
)

TEMPLATES = {"alpaca": _ALPACA, "human-assistant": _HUMAN_ASSISTANT}
TAKES_INPUT = ("alpaca",)  # templates with a separate place for an instruction's input


@dataclass(frozen=True)
class TokenizedChat:
    """A conversation as token ids.

    Attributes:
        ids: token ids of the conversation.
        loss_mask: which of them are the assistant's, end tokens included.
        prompt_length: number of tokens before the assistant's first.
        prompt: the text that the assistant's last turn is generated from.
    """

    ids: list[int]
    loss_mask: list[bool]
    prompt_length: int
    prompt: str

    @classmethod
    def of(cls, ids: list[int], loss_mask: list[bool], prompt: str) -> TokenizedChat:
        """A conversation whose prompt length is found from the mask."""
        return cls(ids, loss_mask, loss_mask.index(True) if True in loss_mask else len(ids), prompt)


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template of a tokenizer, and the token that ends a turn of the assistant.

    Attributes:
        text: Jinja, or None for the tokenizer's own template.
        takes_input: whether an instruction's input has a separate place; otherwise it follows the instruction.
        special: ids of special tokens.
        ends: the id that ends a turn of the assistant; while it is being found, all special ids.
    """

    tokenizer: PreTrainedTokenizerBase
    text: str | None
    variables: dict[str, Any]
    takes_input: bool
    special: frozenset[int]
    ends: frozenset[int]

    @classmethod
    def of(cls, choice: TemplateChoice, tokenizer: PreTrainedTokenizerBase) -> ChatTemplate:
        """The template that a recipe chooses.

        Raises:
            UserError: the tokenizer has no chat template, or the template fails or does not end the assistant's turns.
        """
        text = None if choice.template == OWN else template_text(choice.template, tokenizer)
        if text is None and not tokenizer.chat_template:
            raise UserError(
                "invalid-template",
                f"{tokenizer.name_or_path} has no chat template",
                hint=f"Choose one: task.template={' | '.join(TEMPLATES)} | a Jinja file.",
            )
        special = frozenset({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder} - {tokenizer.unk_token_id})
        template = cls(tokenizer, text, dict(choice.variables), choice.template in TAKES_INPUT, special, special)
        return replace(template, ends=frozenset({template._find_end()}))

    @property
    def end(self) -> int:
        """The id of the token that ends a turn of the assistant."""
        (end,) = self.ends
        return end

    def begins_with(self, text: str) -> bool:
        """Whether conversations begin with `text`."""
        try:
            return bool(text) and self.render(without_answer(_PROBE), ask=True).startswith(text)
        except UserError:  # the template takes other conversations than the probe
            return False

    def render(self, conversation: Conversation, ask: bool, where: str = "") -> str:
        """Render a conversation as text; `ask` adds the beginning of a turn of the assistant.

        Raises:
            UserError: the template fails, takes too long, or needs too much memory.
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
        """The texts that the assistant's next turns are generated from."""
        with limited_often():
            pairs = zip(conversations, sources, strict=True)
            return [self.render(each, ask=True, where=where) for each, where in pairs]

    def encode(self, conversations: Sequence[Conversation], sources: Sequence[str]) -> list[TokenizedChat]:
        """Token ids of conversations, and which of them count towards the loss.

        If the template marks the assistant's turns with {% generation %}, the marks decide. Otherwise a turn reaches
        from the end of its prompt to its end token; both are found by rendering successive prefixes of the
        conversation. If the tokens of a prefix are not a prefix of all tokens, the parts are tokenised separately, so
        that a prompt has the same tokens in training and generation.

        Args:
            sources: the name of each conversation, for messages.

        Raises:
            UserError: the template fails, or renders earlier turns differently when others follow.
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
        """Prefixes of a conversation's text: up to before each answer, up to after it, and the complete text."""
        complete = self.render(conversation, ask=False, where=where)
        cuts: list[str] = []
        for place, message in enumerate(conversation):
            if message["role"] != "assistant":
                continue
            before = self.render(conversation[:place], ask=True, where=where)
            rendered = self.render(conversation[: place + 1], ask=False, where=where)
            through = _common_prefix(rendered, complete)
            kept = through.startswith(before) and before.startswith(cuts[-1] if cuts else "")
            if not kept or not self._is_blank(self._ids(rendered[len(through) :])):
                raise UserError(
                    "invalid-template",
                    f"{where}, message {place + 1}: the chat template renders earlier messages differently when others"
                    " follow, so the assistant's turns cannot be located",
                    hint="Mark them with {% generation %} in your own template (task.template), or leave out system "
                    "messages if the template moves them.",
                )
            cuts += [before, through]
        return cuts if cuts and cuts[-1] == complete else [*cuts, complete]

    def _turns(self, cuts: list[str], tokens: dict[str, list[int]], where: str) -> TokenizedChat:
        ids: list[int] = []
        mask: list[bool] = []
        complete, done = tokens[cuts[-1]], ""
        running = all(complete[: len(tokens[text])] == tokens[text] for text in cuts)
        for number, text in enumerate(cuts):
            part = complete[len(ids) : len(tokens[text])] if running else self._ids(text[len(done) :])
            answer = number % 2 == 1
            said = self._length_of_answer(part, where) if answer else 0
            ids += part
            mask += [True] * said + [False] * (len(part) - said)
            done = text
        return TokenizedChat.of(ids, mask, cuts[max(0, 2 * (len(cuts) // 2) - 2)])

    def _length_of_answer(self, part: list[int], where: str) -> int:
        """The number of tokens of an answer in the rendered `part`, its end token included.

        The end token is the first of `ends` that only special tokens and spaces follow.
        """
        ends = [place for place in range(len(part)) if part[place] in self.ends]
        while len(ends) > 1 and not self._is_blank(part[ends[0] + 1 :]):
            ends.pop(0)
        if not ends or not self._is_blank(part[ends[0] + 1 :]):
            raise UserError(
                "invalid-template",
                f"{where or 'the chat template'}: no special token ends a turn of the assistant, so a model would not"
                " learn to stop",
                hint="Add {{ eos_token }} to the turn's end in your own template: task.template=<file>",
            )
        return ends[0] + 1

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _is_blank(self, ids: list[int]) -> bool:
        """Whether token ids are special tokens and spaces only."""
        return not self.tokenizer.decode([token for token in ids if token not in self.special]).strip()

    def _marked(self, conversation: Conversation, where: str) -> TokenizedChat:
        """Encode by the template's own {% generation %} marks."""
        self.render(
            conversation, ask=False, where=where
        )  # checks the limits, which do not reach the tokenizer's threads
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
    """The Jinja text of a template; a named template begins with the BOS token if the tokenizer adds one."""
    if template not in TEMPLATES:
        return template
    begins = find_affixes(tokenizer).before == [tokenizer.bos_token_id]
    return ("{{ bos_token }}" if begins else "") + TEMPLATES[template]


def _common_prefix(text: str, other: str) -> str:
    """The common prefix of two texts."""
    length = next((place for place, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), len(text))
    return text[: min(length, len(other))]


def _template_fault(error: Exception, where: str) -> UserError:
    """The error of a failing template, with its line and the reason."""
    line = getattr(error, "lineno", None)
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == "<template>" or frame.filename == "<unknown>":
            line = frame.lineno
    place = "the chat template" + (f", line {line}" if line else "")
    reason = first_line(error)
    if isinstance(error, RecursionError):
        reason = "endless recursion, or too deep nesting"
    return UserError(
        "invalid-template", f"{where + ': ' if where else ''}{place}: {reason}", hint="Change the row, or the template."
    )
