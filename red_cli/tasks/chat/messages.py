"""Messages as data sets write them -> role, content, tool calls and reasoning, as chat templates read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from red_cli.errors import shown
from red_cli.tasks.data.bad_rows import Fault

Message = Mapping[str, Any]  # role, content; perhaps tool_calls, reasoning_content; input of an instruction

ROLES = ("system", "developer", "user", "assistant", "tool")
# Other names of roles, in ShareGPT and elsewhere
_ALIASES = {
    "human": "user", "prompter": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
    "bot": "assistant", "ai": "assistant", "function_call": "assistant", "tool_call": "assistant",
    "observation": "tool", "function_response": "tool", "tool_response": "tool", "function": "tool", "ipython": "tool",
}  # fmt: skip
_CALLS = ("function_call", "tool_call")  # roles of a message that is a call, and keys that hold one
_REASONING = ("reasoning_content", "thinking", "reasoning")
_TEXT_PARTS = ("text", "input_text", "output_text")
_COUNTS = ("weight", "loss_weight", "train", "training", "loss")  # keys that say whether a turn counts for the loss
_KNOWN = {"role", "content", "from", "value", "tool_calls", "function_call", "name", "tool_call_id", *_REASONING,
          *_COUNTS}  # fmt: skip
_FOLLOWERS = {
    "": ("user", "system", "developer"),
    "system": ("user", "developer"),
    "developer": ("user", "system"),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}  # fmt: skip


class BadRow(Exception):
    """The messages of a row cannot be used."""

    def __init__(self, reason: str, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(reason)
        self.fault = Fault(reason, detail, hint)


@dataclass
class Observed:
    """What the messages of a split have besides role and content.

    Attributes:
        keys: keys of messages that only a template may read.
        roles: other name of a role -> the role it stands for.
        variables: variables of the chat template that rows set.
        skipped: number of turns whose own keys let them not count towards the loss.
    """

    keys: set[str] = field(default_factory=set)
    roles: dict[str, str] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)
    skipped: int = 0


def messages_of(value: Any, place: str, observed: Observed) -> tuple[list[Message], set[int]]:
    """Messages, and the indices of those that do not count towards the loss.

    Args:
        value: a list of objects, or its JSON.
        place: where it is in the row, such as its column.

    Raises:
        BadRow: it is not a list of messages with a known role and a text.
    """
    value = decoded(value)
    if not isinstance(value, list) or not value:
        raise BadRow(
            "no list of messages",
            f"{place}: expected a list of messages, got {'an empty one' if value == [] else shown(value)}",
            'A message is an object such as {"role": "user", "content": "Good morning."}',
        )
    messages: list[Message] = []
    skipped: set[int] = set()
    for index, message in enumerate(value):
        if _is_plain(message):
            messages.append(message)
            continue
        where = f"{place}, message {index + 1}"
        made, counts = _message(message, where, observed)
        messages.append(made)
        if not counts:
            skipped.add(index)
    return messages, skipped


def _is_plain(message: Any) -> bool:
    """Whether a message has a role of ROLES and a text, and nothing else, as most have."""
    return (
        type(message) is dict
        and len(message) == 2
        and message.get("role") in ROLES
        and type(message.get("content")) is str
    )


def require_turns(messages: Sequence[Message]) -> None:
    """Check messages by role and content: user and assistant alternate (tools, system aside), no turn is blank.

    Raises:
        BadRow: they do not.
    """
    before = ""
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if role not in _FOLLOWERS[before]:
            raise BadRow(
                f"a message of the {role} {f'after one of the {before}' if before else 'at the start'}",
                f"message {number}: expected a message of the {_FOLLOWERS[before][0]}, got one of the {role}",
                "After an optional system message, user and assistant alternate; a tool's messages follow the "
                "assistant's.",
            )
        before = role
        needs_text = role in ("user", "assistant") and "input" not in message and "tool_calls" not in message
        if needs_text and not message["content"].strip():
            raise BadRow(f"a blank turn of the {role}", f"message {number}: the {role}'s turn is blank")
    if before not in ("user", "assistant", "tool"):
        raise BadRow("a system message alone", "the conversation has only a system message")


def decoded(value: Any) -> Any:
    """The value of messages that are JSON text of a list or an object; any other value is returned unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def text_of(value: Any, where: str) -> str:
    """A text, or the joined texts of a list of parts.

    Raises:
        BadRow: it is neither, or a part is an image or something else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return "".join(_part(part, where) for part in value)
    what = "null" if value is None else "not text"
    raise BadRow(f"a content that is {what}", f"{where} is {what if value is None else f'{shown(value)}, not text'}")


def _part(part: Any, where: str) -> str:
    """The text of one part of a message's content; a part of another type makes a bad row."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str) and part.get("type", "text") in _TEXT_PARTS:
        return str(part["text"])
    kind = part.get("type", "unknown") if isinstance(part, dict) else type(part).__name__
    raise BadRow(
        "a part that is not text",
        f"{where} has a part of type {shown(kind)}, not text",
        "The model reads text alone.",
    )


def _message(value: Any, where: str, observed: Observed) -> tuple[Message, bool]:
    """A message, and whether it counts towards the loss if it is the assistant's."""
    if not isinstance(value, dict):
        raise BadRow("a message that is not an object", f"{where}: expected role and content, got {shown(value)}")
    given = {key: part for key, part in value.items() if part is not None}
    named = given.get("role", given.get("from"))
    if named is None:
        raise BadRow("a message without a role", f"{where}: expected role and content, got {shown(value)}")
    role = named.lower() if isinstance(named, str) else ""
    role = _ALIASES.get(role, role)
    if role not in ROLES:
        raise BadRow(
            "an unknown role",
            f"{where}: role {shown(named)} is not one of {', '.join(ROLES)}",
            "Name it as one of these.",
        )
    if role != named:
        observed.roles[str(named)] = role
    content = given.get("content", given.get("value"))
    made: dict[str, Any] = {"role": role}
    if role == "assistant":
        if named in _CALLS:
            content, calls = "", decoded(content)
        else:
            calls = decoded(given.get("tool_calls") or given.get("function_call"))
        if calls:
            made["tool_calls"] = _tool_calls(calls, where)
            content = "" if content is None else content
        made |= _reasoning(given, where)
    made["content"] = text_of(content, f"{where}: content")
    others = {key: part for key, part in given.items() if key not in made and key not in (*_COUNTS, "from", "value")}
    for key, part in others.items():
        if key not in ("input", "tool_calls", "function_call", *_REASONING):
            made[key] = _plain(part)
    observed.keys |= {key for key in others if key not in _KNOWN or key in made}
    if role != "assistant":
        observed.keys |= {key for key in others if key in ("tool_calls", *_REASONING) and given[key]}
    return made, _counts(given, role, where)


def _counts(given: Mapping[str, Any], role: str, where: str) -> bool:
    """Whether a message's own keys let it count towards the loss."""
    for key in _COUNTS:
        value = given.get(key)
        if value is None:
            continue
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise BadRow(
                f"a {key} other than 0 and 1",
                f"{where}: {key} is {shown(value)}",
                "A turn counts towards the loss (1, true) or not (0, false).",
            )
        if not value:
            return False
        if role != "assistant" and key in ("train", "training", "loss"):
            raise BadRow(
                f"a message of the {role} that is to count towards the loss",
                f"{where}: {key} is true for a message of the {role}",
                "Only turns of the assistant count; task.train_on_prompt=true trains on all tokens.",
            )
    return True


def _reasoning(given: Mapping[str, Any], where: str) -> dict[str, str]:
    """The reasoning under the names that templates read: the standard one, and gpt-oss's."""
    for key in _REASONING:
        if value := given.get(key):
            text = text_of(value, f"{where}: {key}")
            return {"reasoning_content": text, "thinking": text}
    return {}


def _tool_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    """The tool calls of a message in the one form that chat templates read."""
    made = []
    for call in calls if isinstance(calls, list) else [calls]:
        call = decoded(call)
        function = decoded(call.get("function") or call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow(
                "a tool call without a name",
                f"{where}: {shown(call)} is no tool call",
                'A tool call is an object such as {"type": "function", "function": {"name": …, "arguments": {…}}}',
            )
        arguments = decoded(function.get("arguments", function.get("parameters")))
        identity = {"id": call["id"]} if call.get("id") is not None else {}
        made.append(
            {
                **identity,
                "type": "function",
                "function": {"name": function["name"], "arguments": {} if arguments is None else _plain(arguments)},
            }
        )
    return made


def _plain(value: Any) -> Any:
    """The value as JSON has it: templates are code of others, and get no other objects."""
    return value if isinstance(value, str | int | float | bool) else json.loads(json.dumps(value, default=str))
