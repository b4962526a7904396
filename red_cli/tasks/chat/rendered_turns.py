"""Where the assistant's turns are in the text of a conversation, and how many texts a conversation needs.

A turn reaches from the end of its prompt to its end token; both are found by rendering beginnings of the conversation.
Where a template rewrites earlier turns when others follow, as those that leave out earlier thoughts do, a conversation
becomes several texts: each ends with the turns that a model would write after exactly what stands before them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from red_cli.tasks.chat.chat_template import ChatTemplate, Span, TemplateFault, Turns
from red_cli.tasks.chat.conversations import Conversation
from red_cli.tasks.chat.messages import BadRow, Message

_MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_OPENED = re.compile(r"(<(\w+)>|\[([A-Z]+)\])\s*\Z")  # the tag of a thought at the end of a generation prompt
_OTHER_TEMPLATE = "Choose a template that writes it (task.template), or remove it from the rows."


@dataclass(frozen=True)
class RenderedTurns:
    """A text with turns of the assistant that count towards the loss.

    Attributes:
        turns: where each turn begins and ends in the text; the end is behind its end token.
        marked: whether `turns` are the template's own marks, end tokens included, rather than rendered beginnings.
        last: the message of the last turn.
        thought: whether the turn follows a thought that the generation prompt opens and a rendered turn has not.
    """

    text: str
    turns: list[Span]
    prompt: str
    last: Message
    marked: bool = False
    thought: bool = False


def rendered_turns(
    template: ChatTemplate, conversations: Sequence[Conversation]
) -> list[list[RenderedTurns] | BadRow | TemplateFault]:
    """The texts of conversations that end with the assistant, or why a conversation has none."""
    places = [_places(conversation) for conversation in conversations]
    marked = bool(_MARKS_ANSWERS.search(template.text))
    wanted = [] if marked else [each for each in zip(conversations, places, strict=True) if each[1]]
    turns = iter(template.turns(wanted))
    found: list[list[RenderedTurns] | BadRow | TemplateFault] = []
    for conversation, answers in zip(conversations, places, strict=True):
        rendered = next(turns) if answers and not marked else None
        try:
            found.append(_rendered(template, conversation, answers, rendered))
        except (BadRow, TemplateFault) as fault:
            found.append(fault)
    return found


def _places(conversation: Conversation) -> list[int]:
    """The places of the messages that count towards the loss."""
    skipped = conversation.skipped
    messages = enumerate(conversation.messages)
    return [place for place, message in messages if message["role"] == "assistant" and place not in skipped]


def _rendered(
    template: ChatTemplate, conversation: Conversation, places: list[int], turns: Turns | TemplateFault | None
) -> list[RenderedTurns]:
    """The texts of one conversation with its turns, found by the template's marks or by rendered beginnings."""
    if not places:
        raise BadRow("no turn that counts towards the loss", "the assistant has no turn that counts towards the loss")
    if isinstance(turns, TemplateFault):
        raise turns
    if turns is None:
        rows = [_marked(template, conversation, places)]
    else:
        conversation = conversation.until(places[-1] + 1)
        rows = _located(template, conversation, places, turns)
    _require_written(template, conversation, rows[-1].text)
    return rows


def _located(
    template: ChatTemplate, conversation: Conversation, places: list[int], turns: Turns
) -> list[RenderedTurns]:
    """The texts of a conversation whose turns are found by rendering beginnings, from the last turn to the first."""
    messages = conversation.messages
    prompts, rendered = turns
    rows: list[RenderedTurns] = []
    for index in reversed(range(len(places))):
        message, prompt, text = messages[places[index]], prompts[index], rendered[index]
        if text.startswith(prompt) and message["content"].strip() not in text[len(prompt) :]:
            _require_content(template, conversation, places[index], text)
        if rows and not rows[-1].thought:
            row = rows[-1]
            end = _common_length(text, row.text)
            blank = end == len(text) or template.is_blank(_ids(template, text[end:]))
            if blank and text.startswith(prompt) and len(prompt) <= end <= row.turns[0][0]:
                rows[-1] = replace(row, turns=[(len(prompt), end), *row.turns])
                continue
        if text.startswith(prompt):
            row = RenderedTurns(text, [(len(prompt), len(text))], prompt, message)
        else:
            row = _after_thought(template, message, places[index], prompt, text)
        rows.append(row)
    for index, place in enumerate(places):
        _require_keys(template, conversation, place, rendered[index], any(row.thought for row in rows))
    return rows[::-1]


def _after_thought(template: ChatTemplate, message: Message, place: int, prompt: str, text: str) -> RenderedTurns:
    """The turn as a model writes it after a prompt that opens a thought, if the rendered turn leaves it out."""
    turn = f"message {place + 1}"
    opened = _OPENED.search(prompt)
    if opened is None or not text.startswith(prompt[: opened.start()]):
        raise TemplateFault(
            f"{turn}: {template.name} does not begin the turn as its generation prompt does: the prompt ends with "
            f"{prompt[-30:]!r}",
            "a turn that does not begin as the generation prompt does",
        )
    tag, name = opened[1], opened[2] or opened[3]
    closing = f"</{name}>" if opened[2] else f"[/{name}]"
    thought, answer = message.get("reasoning_content"), message["content"]
    if thought is not None and closing not in answer:
        written = thought.strip("\n") + f"\n{closing}\n\n" + answer
    else:
        written = answer.lstrip().removeprefix(tag)
        written = written.removeprefix(opened[0][len(tag) :]) if written != answer.lstrip() else answer
    final = written.rpartition(closing)[2].strip()
    shown = text[opened.start() :]
    if closing not in written or not final or final not in shown:
        raise TemplateFault(
            f"{turn}: the generation prompt of {template.name} opens a thought ({tag}) that the rendered turn has not, "
            f"and the message has no thought before {closing}",
            "an answer without the thought that the generation prompt opens",
        )
    kept = written[: written.rindex(final) + len(final)]
    text = prompt + kept + shown[shown.rindex(final) + len(final) :]
    return RenderedTurns(text, [(len(prompt), len(text))], prompt, message, thought=True)


def _marked(template: ChatTemplate, conversation: Conversation, places: list[int]) -> RenderedTurns:
    """The text with the turns that the template marks with {% generation %}."""
    text, spans = template.render_marked(conversation)
    turns = [place for place, message in enumerate(conversation.messages) if message["role"] == "assistant"]
    if len(places) < len(turns):
        if len(spans) != len(turns):
            raise BadRow(
                "turns that do not count, in a template with other marks",
                f"{template.name} marks {len(spans)} parts of {len(turns)} turns, so single turns cannot be left out",
            )
        spans = [spans[turns.index(place)] for place in places]
    prompt = template.render(conversation.until(places[-1]), ask=True)
    _require_keys(template, conversation, places[-1], text, False)
    return RenderedTurns(text, spans, prompt, conversation.messages[places[-1]], marked=True)


def _require_content(template: ChatTemplate, conversation: Conversation, place: int, text: str) -> None:
    """Check that an answer whose content is not in the text as it stands is not left out."""
    message = conversation.messages[place]
    if "tool_calls" in message:
        _require_effect(template, conversation, place, {"content": ""}, text, "a text together with tool calls")
    elif "</think>" in message["content"] and "</think>" not in text:
        raise BadRow(
            "a thought that the chat template does not write",
            f"message {place + 1}: {template.name} leaves out the thought before </think>",
            _OTHER_TEMPLATE,
        )


def _require_keys(template: ChatTemplate, conversation: Conversation, place: int, text: str, thought: bool) -> None:
    """Check that rendered turns have an answer's tool calls and reasoning."""
    message = conversation.messages[place]
    if "tool_calls" in message:
        _require_effect(template, conversation, place, {"tool_calls": None}, text, "tool calls")
    if "reasoning_content" in message and not thought:
        without = dict.fromkeys(("reasoning_content", "thinking"))
        _require_effect(template, conversation, place, without, text, "reasoning_content")


def _require_effect(
    template: ChatTemplate, conversation: Conversation, place: int, changes: dict[str, Any], text: str, what: str
) -> None:
    """Check that a rendered turn with a message of other keys has another text."""
    messages = list(conversation.messages[: place + 1])
    changed = {**messages[place], **changes}
    messages[place] = {key: value for key, value in changed.items() if value is not None}
    if _same(template, replace(conversation.until(place + 1), messages=messages), text):
        raise BadRow(
            f"{what} that the chat template does not write",
            f"message {place + 1}: {template.name} does not write {what}",
            _OTHER_TEMPLATE,
        )


def _require_written(template: ChatTemplate, conversation: Conversation, text: str) -> None:
    """Check that rendered turns have the tools, and the messages of the system and of tools."""
    if conversation.tools and _same(template, replace(conversation, tools=None), text):
        raise BadRow(
            "tools that the chat template does not write",
            f"{template.name} does not write the column 'tools'",
            _OTHER_TEMPLATE,
        )
    for place, message in enumerate(conversation.messages):
        content = message["content"].strip()
        if message["role"] in ("system", "tool") and content not in text:
            messages = [other for index, other in enumerate(conversation.messages) if index != place]
            if _same(template, replace(conversation, messages=messages), text):
                what = f"a message of the {message['role']}"
                raise BadRow(
                    f"{what} that the chat template does not write",
                    f"message {place + 1}: {template.name} does not write {what}",
                    _OTHER_TEMPLATE,
                )


def _same(template: ChatTemplate, conversation: Conversation, text: str) -> bool:
    """Whether the template writes the same text for a conversation; one that it refuses is another."""
    try:
        return template.render(conversation, ask=False) == text
    except TemplateFault:
        return False


def _common_length(text: str, other: str) -> int:
    """The length of the common prefix of two texts."""
    if other.startswith(text):
        return len(text)
    low, high = 0, min(len(text), len(other))
    while low < high:  # all of text[:low] is common
        middle = (low + high + 1) // 2
        low, high = (middle, high) if other.startswith(text[:middle]) else (low, middle - 1)
    return low


def _ids(template: ChatTemplate, text: str) -> list[int]:
    """The token ids of a rendered text."""
    return list(template.tokenizer(text, add_special_tokens=False)["input_ids"])
