"""Chat templates: conversations -> text, within bounds of time and memory."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template, _render_with_assistant_indices

from red_cli.errors import UserError, first_line
from red_cli.limits import LimitReached, limited, limited_often
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.recipe.template import OWN, template_file
from red_cli.tasks.chat.causal_template import CausalTemplate
from red_cli.tasks.chat.choose_template import TAKES_INPUT, TEMPLATES, template_text, tool_template
from red_cli.tasks.chat.conversations import Conversation
from red_cli.tasks.chat.messages import Message

# Limits of a rendered text: a longer one is no conversation, and takes minutes to tokenise
_LONGEST_FRAME = 1_000_000  # characters around the messages
_MOST_COPIES = 10  # of each message
_ASKED = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "a"})
_PROBES = (Conversation(_ASKED), Conversation(({"role": "system", "content": "a"}, *_ASKED)))
_LONGEST_END = 4  # tokens after a turn whose text is remembered
_RENDERED_AT_ONCE = 16  # conversations that share the bounds: to set them takes as long as to render a text

Span = tuple[int, int]  # characters of a text
Turns = tuple[list[str], list[str]]  # the texts up to before each turn, and up to after it


class TemplateFault(UserError):
    """The template does not fit a conversation.

    Args:
        reason: the kind of fault, without places.
        final: whether other conversations need not be tried.
    """

    def __init__(
        self, message: str, reason: str, hint: str = "Change the row, or the template.", final: bool = False
    ) -> None:
        super().__init__("invalid-template", message, hint=hint)
        self.reason = reason
        self.final = final


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template of a tokenizer, and the token that ends a turn of the assistant.

    Attributes:
        text: Jinja.
        tool_text: Jinja for conversations with tools, if it is another.
        name: the template in messages, such as "the chat template talk.jinja".
        variables: variables of the template, special tokens included.
        takes_input: whether an instruction's input has a separate place; otherwise it follows the instruction.
        special: ids of special tokens.
        ends: the id that ends a turn of the assistant; while it is being found, all special ids.
    """

    tokenizer: PreTrainedTokenizerBase
    text: str
    tool_text: str | None
    name: str
    variables: Mapping[str, Any]
    takes_input: bool
    special: frozenset[int]
    ends: frozenset[int]

    @classmethod
    def of(
        cls, choice: TemplateChoice, tokenizer: PreTrainedTokenizerBase, examples: Iterable[Conversation] = ()
    ) -> ChatTemplate:
        """The template that a recipe chooses.

        Its end token is found by rendering a short conversation; where the template refuses that, one of `examples`.

        Raises:
            UserError: the tokenizer has no such template, or the template fails or does not end the assistant's turns.
        """
        special = frozenset({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder} - {tokenizer.unk_token_id})
        template = cls(
            tokenizer, template_text(choice.template, tokenizer), tool_template(choice.template, tokenizer),
            _name(choice.template, tokenizer), {**tokenizer.special_tokens_map, **choice.variables},
            choice.template in TAKES_INPUT, special, special,
        )  # fmt: skip
        return replace(template, ends=frozenset({template._find_end(examples)}))

    @property
    def end(self) -> int:
        """The id of the token that ends a turn of the assistant."""
        (end,) = self.ends
        return end

    def begins_with(self, text: str) -> bool:
        """Whether conversations begin with `text`."""
        for probe in _PROBES:
            try:
                return bool(text) and self.render(probe.asked, ask=True).startswith(text)
            except TemplateFault:  # the template takes other conversations than this one
                continue
        return False

    @cached_property
    def names_read(self) -> frozenset[str]:
        """The names of variables and keys that the template has anywhere."""
        found: set[str] = set()
        for text in (self.text, self.tool_text or ""):
            tree = _compile_jinja_template(text).environment.parse(text)
            found |= {name.name for name in tree.find_all(nodes.Name)}
            found |= {part.attr for part in tree.find_all(nodes.Getattr)}
            found |= {part.value for part in tree.find_all(nodes.Const) if isinstance(part.value, str)}
        return frozenset(found)

    def render(self, conversation: Conversation, ask: bool) -> str:
        """Render a conversation as text; `ask` adds the beginning of a turn of the assistant.

        Raises:
            TemplateFault: the template fails, takes too long, or needs too much memory.
        """
        try:
            with limited():
                text = self._render(conversation, ask)
        except Exception as error:  # whatever the template's own code runs into
            raise self._fault(error) from None
        self._require_bounded([text], conversation)
        return text

    def turns(self, wanted: Sequence[tuple[Conversation, Sequence[int]]]) -> list[Turns | TemplateFault]:
        """The texts of conversations up to before and up to after the messages at given places.

        Up to 16 conversations share the bounds of time and memory; if they exceed them, each has its own.
        """
        found: list[Turns | TemplateFault] = []
        with limited_often():
            for start in range(0, len(wanted), _RENDERED_AT_ONCE):
                part = wanted[start : start + _RENDERED_AT_ONCE]
                try:
                    with limited():
                        turns = [self._turns(*each) for each in part]
                    for (prompts, texts), (conversation, _) in zip(turns, part, strict=True):
                        self._require_bounded([*prompts, *texts], conversation)
                    found += turns
                except Exception:  # whatever the template's own code runs into, which the next line finds out
                    found += [self._turns_alone(*each) for each in part]
        return found

    def render_marked(self, conversation: Conversation) -> tuple[str, list[Span]]:
        """Render a conversation, and find the parts that the template marks with {% generation %}.

        Raises:
            TemplateFault: the template fails, takes too long, or needs too much memory.
        """
        try:
            with limited():
                text, spans = _render_with_assistant_indices(
                    _compile_jinja_template(self._text_for(conversation)), **self._arguments(conversation, False)
                )
        except Exception as error:  # whatever the template's own code runs into
            raise self._fault(error) from None
        self._require_bounded([text], conversation)
        return text, spans

    def prompts(self, conversations: Sequence[Conversation]) -> list[str]:
        """The texts that the assistant's next turns are generated from.

        Raises:
            TemplateFault: the template fails, takes too long, or needs too much memory.
        """
        with limited_often():
            return [self.render(each, ask=True) for each in conversations]

    def length_of_answer(self, part: Sequence[int]) -> int | None:
        """The number of tokens of an answer in the rendered `part`, its end token included; None without end token.

        The end token is the first of `ends`, or else of all special tokens, that only special tokens and spaces follow.
        """
        for known in (self.ends, self.special):
            ends = [place for place, token in enumerate(part) if token in known]
            while len(ends) > 1 and not self.is_blank(part[ends[0] + 1 :]):
                ends.pop(0)
            if ends and self.is_blank(part[ends[0] + 1 :]):
                return ends[0] + 1
        return None

    def is_blank(self, ids: Sequence[int]) -> bool:
        """Whether token ids are special tokens and spaces only."""
        key = tuple(token for token in ids if token not in self.special)
        if key not in self._blank:
            if len(key) > _LONGEST_END:
                return not self.tokenizer.decode(list(key)).strip()
            self._blank[key] = not self.tokenizer.decode(list(key)).strip()
        return self._blank[key]

    @cached_property
    def _blank(self) -> dict[tuple[int, ...], bool]:
        """Short sequences of ids -> whether they are blank: all rows end alike."""
        return {(): True}

    def _text_for(self, conversation: Conversation) -> str:
        return self.tool_text if conversation.tools and self.tool_text is not None else self.text

    def _render(self, conversation: Conversation, ask: bool) -> str:
        template = _compile_jinja_template(self._text_for(conversation))
        return str(template.render(**self._arguments(conversation, ask)))

    def _arguments(self, conversation: Conversation, ask: bool) -> dict[str, Any]:
        messages = conversation.messages
        if not self.takes_input and any("input" in message for message in messages):
            messages = [_with_input(message) for message in messages]
        return {
            **self.variables, **conversation.variables, "messages": messages, "tools": conversation.tools,
            "documents": None, "add_generation_prompt": ask,
        }  # fmt: skip

    def _turns(self, conversation: Conversation, places: Sequence[int]) -> Turns:
        if self._causal is not None and not conversation.variables:
            found = self._causal.beginnings(self._arguments(conversation, False))
            if found is not None:
                texts, after = found
                if not self._after_asking:
                    _, asked = self._causal.beginnings(self._arguments(conversation, True)) or ([], "")
                    self._after_asking.append(asked)
                asked = self._after_asking[0]
                return [texts[place - 1] + asked for place in places], [texts[place] + after for place in places]
        return (
            [self._render(conversation.until(place), True) for place in places],
            [self._render(conversation.until(place + 1), False) for place in places],
        )

    def _turns_alone(self, conversation: Conversation, places: Sequence[int]) -> Turns | TemplateFault:
        try:
            return (
                [self.render(conversation.until(place), True) for place in places],
                [self.render(conversation.until(place + 1), False) for place in places],
            )
        except TemplateFault as fault:
            return fault

    @cached_property
    def _causal(self) -> CausalTemplate | None:
        """The template with marks after the messages, if one rendering has all beginnings; None with several texts."""
        if self.tool_text is not None:
            return None
        return CausalTemplate.of(self.text, _compile_jinja_template(self.text).environment)

    @cached_property
    def _after_asking(self) -> list[str]:
        """The fixed text after the messages that begins a turn, once it is known."""
        return []

    def _require_bounded(self, texts: Sequence[str], conversation: Conversation) -> None:
        longest = max(map(len, texts))
        if longest > _LONGEST_FRAME:
            given = sum(_size(part) for message in conversation.messages for part in message.values())
            given += _size(conversation.tools)
            if longest > _LONGEST_FRAME + _MOST_COPIES * given:
                raise self._fault(LimitReached(f"writes {longest:,} characters for a conversation of {given:,}"))

    def _fault(self, error: Exception) -> TemplateFault:
        """The error of the failing template, with its line and the reason."""
        line = getattr(error, "lineno", None)
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == "<template>" or frame.filename == "<unknown>":
                line = frame.lineno
        reason = first_line(error)
        if isinstance(error, RecursionError):
            reason = "endless recursion, or too deep nesting"
        place = self.name + (f", line {line}" if line else "")
        final = isinstance(error, LimitReached | RecursionError | TemplateSyntaxError)
        return TemplateFault(f"{place}: {reason}", f"{self.name}: {reason}", final=final)

    def _find_end(self, examples: Iterable[Conversation]) -> int:
        """The token that ends the answer of a short conversation, or of the first of `examples` that is rendered."""
        faults: list[UserError] = []
        for probe in (*_PROBES, *map(_shortened, examples), *examples):
            try:
                text = self.render(probe, ask=False)
            except TemplateFault as fault:
                faults.append(fault)
                if fault.final:
                    break
                continue
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            length = self.length_of_answer(ids)
            if length is not None:
                return int(ids[length - 1])
            faults.append(self.without_end())
            break
        raise faults[-1]

    def without_end(self) -> TemplateFault:
        """The error of a template that ends no turn."""
        return TemplateFault(
            f"{self.name}: no special token ends a turn of the assistant, so a model would not train to stop",
            "a turn that no special token ends",
            "Add {{ eos_token }} to the turn's end in your own template: task.template=<file>",
        )


def _with_input(message: Message) -> Message:
    """The message as a chat template makes text of it: the instruction, a blank line, then its input."""
    if "input" not in message:
        return message
    return {"role": message["role"], "content": f"{message['content']}\n\n{message['input']}"}


def _shortened(conversation: Conversation) -> Conversation:
    """The conversation with a short text in each message: texts may hold special tokens, which end no turn."""
    return replace(conversation, messages=[{**message, "content": "a"} for message in conversation.messages])


def _size(value: Any) -> int:
    """The number of characters of a value."""
    return len(value) if isinstance(value, str) else len(json.dumps(value))


def _name(template: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The template in messages."""
    if template.partition(":")[0] == OWN:
        return f"the chat template of {tokenizer.name_or_path or 'the base'}"
    known = template if template in TEMPLATES else template_file(template)
    return f"the chat template {known}" if known else "the chat template"
