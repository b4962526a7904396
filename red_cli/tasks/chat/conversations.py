"""Rows -> conversations: lists of messages, prompts with completions, or instructions with outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import Any

import pyarrow as pa

from red_cli.errors import UserError, shown
from red_cli.recipe.sections import Columns
from red_cli.tasks.chat.messages import BadRow, Message, Observed, decoded, messages_of, require_turns, text_of
from red_cli.tasks.data.bad_rows import Fault
from red_cli.tasks.data.rows import Rows

# The columns of each form of conversation, in the order of search; the last of each counts towards the loss.
_FORMS = {"messages": ("messages",), "completion": ("prompt", "completion"), "output": ("instruction", "output")}
_SHAREGPT = ("conversations", "conversation")  # other names of the column of messages
# Columns that add to a conversation, in any form: a system message, the tools, variables of the template
_ADDED = ("system", "tools", "chat_template_kwargs")
_MEDIA = ("image", "images", "audio", "audios", "video", "videos")
_NOT_VARIABLES = ("messages", "tools", "documents", "add_generation_prompt", "chat_template", "tokenize")


@dataclass(frozen=True)
class Conversation:
    """A conversation of a row.

    Attributes:
        messages: an optional system message, then user and assistant alternate, apart from tools.
        tools: descriptions of the tools that the assistant may call.
        variables: variables of the chat template.
        skipped: indices of the assistant's messages that do not count towards the loss.
    """

    messages: Sequence[Message]
    tools: Sequence[Any] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    skipped: frozenset[int] = frozenset()

    @property
    def answered(self) -> bool:
        """Whether it ends with the assistant."""
        return bool(self.messages[-1]["role"] == "assistant")

    @property
    def asked(self) -> Conversation:
        """The conversation up to the message that the last answer answers."""
        return replace(self, messages=self.messages[:-1]) if self.answered else self

    def until(self, length: int) -> Conversation:
        """The first `length` messages."""
        if length == len(self.messages):
            return self
        return Conversation(self.messages[:length], self.tools, self.variables, self.skipped)


def form_of(rows: Rows, columns: Columns) -> str:
    """The form of the rows: "messages", "completion" or "output".

    A form with a column named in data.columns comes first, then the first form with all of its columns, then the first
    with a prompt or an instruction alone: such rows are to be answered.

    Raises:
        UserError: the rows have no such columns.
    """
    there = rows.table.column_names
    named = [form for form, parts in _FORMS.items() if any(getattr(columns, part) for part in parts)]
    complete = [form for form, parts in _FORMS.items() if all(_name(columns, part, there) in there for part in parts)]
    asked = [form for form, parts in _FORMS.items() if _name(columns, parts[0], there) in there]
    for form in (*named, *complete, *asked):
        return form
    raise UserError(
        "column-not-found",
        f"{rows.source} has no conversations; its columns are {', '.join(there)}",
        hint="Needed: messages or conversations, or prompt and completion, or instruction and output; map names with "
        "data.columns.",
    )


def column_of_answers(columns: Columns) -> str:
    """The column of rows from which the answers of conversations are read, as far as it is known before reading."""
    named = [parts[-1] for parts in _FORMS.values() if any(getattr(columns, part) for part in parts)]
    return _name(columns, named[0] if named else "messages", ())


def columns_of(rows: Rows, columns: Columns) -> list[str]:
    """The columns of rows that conversations are read from.

    Raises:
        UserError: the rows have no conversations, or a column of the recipe is missing.
    """
    there = rows.table.column_names
    parts = {"messages": ("messages",), "completion": ("prompt", "completion"),
             "output": ("instruction", "input", "output", "history")}[form_of(rows, columns)]  # fmt: skip
    named = [getattr(columns, part, None) for part in parts]
    if missing := [name for name in named if name is not None and name not in there]:
        rows.column(missing[0])  # raises: there is no such column
    used = [_name(columns, part, there) for part in parts]
    return [name for name in (*used, *_ADDED, *_MEDIA) if name in there]


def read_conversations(rows: Rows, columns: Columns, part: slice, observed: Observed) -> list[Conversation | Fault]:
    """The conversations of a part of the rows, or why a row has none.

    Args:
        observed: is extended by what the messages have.

    Raises:
        UserError: a column is missing.
    """
    form = form_of(rows, columns)
    names = columns_of(rows, columns)
    start = part.start or 0
    chunk = replace(rows, table=rows.table.select(names).slice(start, (part.stop or rows.table.num_rows) - start))
    nested = [name for name in names if pa.types.is_nested(chunk.table.schema.field(name).type)]
    values = {name: _objects(chunk.table.column(name)) or chunk.column(name) for name in names}
    found: list[Conversation | Fault] = []
    for index in range(chunk.table.num_rows):
        row = {name: column[index] for name, column in values.items()}
        try:
            found.append(_conversation(row, form, columns, nested, observed))
        except BadRow as bad:
            found.append(bad.fault)
    return found


def _objects(column: pa.ChunkedArray) -> list[Any] | None:
    """The conversations of a column of rows as lists of messages, faster than by Arrow; None for other columns."""
    array = column.combine_chunks()
    if not pa.types.is_list(array.type) or not pa.types.is_struct(array.type.value_type) or not len(array):
        return None
    flat = array.flatten()
    if array.null_count or flat.null_count:
        return None
    names = [flat.type.field(place).name for place in range(flat.type.num_fields)]
    fields = [values.to_pylist() for values in flat.flatten()]
    objects = [dict(zip(names, values, strict=True)) for values in zip(*fields, strict=True)]
    offsets = array.offsets.to_pylist()
    return [objects[start - offsets[0] : stop - offsets[0]] for start, stop in pairwise(offsets)]


def _conversation(
    row: Mapping[str, Any], form: str, columns: Columns, nested: Sequence[str], observed: Observed
) -> Conversation:
    """The conversation of a row: its messages, tools, template variables and skipped turns."""
    messages, skipped = _READERS[form](row, columns, observed)
    if not messages:
        raise BadRow("no message", "the conversation has no message")
    if nested:
        messages = [_without_filling(message) if "tool_calls" in message else message for message in messages]
    added = {name: row[name] for name in _ADDED if row.get(name) not in (None, "", "[]", "{}", [], {})}
    if "system" in added:
        text = text_of(added["system"], "column 'system'")
        if messages[0]["role"] != "system":
            messages = [{"role": "system", "content": text}, *messages]
            skipped = {index + 1 for index in skipped}
        elif messages[0]["content"] != text:
            raise BadRow("two system messages", "the column 'system' and the conversation have different ones")
    for name in _MEDIA:
        if row.get(name) not in (None, "", []):
            raise BadRow(
                "an image, a sound or a video",
                f"column {shown(name)} is not empty",
                "The model reads text alone.",
            )
    require_turns(messages)
    skipped = {place for place in skipped if messages[place]["role"] == "assistant"}
    observed.skipped += len(skipped)
    if not added.keys() - {"system"}:
        return Conversation(messages, skipped=frozenset(skipped))
    variables = decoded(added.get("chat_template_kwargs", {}))
    if not isinstance(variables, dict) or (taken := [name for name in _NOT_VARIABLES if name in variables]):
        what = shown(variables) if not isinstance(variables, dict) else f"{shown(taken[0])}, which is no variable"
        raise BadRow("chat_template_kwargs that are no variables", f"column 'chat_template_kwargs' has {what}")
    variables = {name: value for name, value in variables.items() if value is not None}
    observed.variables |= variables.keys()
    tools = decoded(added.get("tools"))
    if tools is not None:
        tools = [decoded(tool) for tool in (tools if isinstance(tools, list) else [tools])]
        if bad := [tool for tool in tools if not isinstance(tool, dict)]:
            raise BadRow("tools that are no objects", f"column 'tools' has {shown(bad[0])}")
        tools = _without_nulls(tools) if "tools" in nested else tools
    return Conversation(messages, tools, variables, frozenset(skipped))


def unread_columns(rows: Rows, columns: Columns) -> list[str]:
    """The columns that no conversation is read from."""
    used = columns_of(rows, columns)
    return [name for name in rows.table.column_names if name not in used]


def are_answered(rows: Rows, columns: Columns) -> bool:
    """Whether some conversation of rows ends with an answer; reads as far as the first usable row.

    Raises:
        UserError: the rows have no conversations.
    """
    first = next(first_conversations(rows, columns), None)
    return first is not None and first.answered


def first_conversations(rows: Rows, columns: Columns, most: int = 1) -> Iterator[Conversation]:
    """An iterator over the first `most` usable conversations of rows."""
    starts = range(0, rows.table.num_rows, 100)
    chunks = (read_conversations(rows, columns, slice(start, start + 100), Observed()) for start in starts)
    return islice((each for chunk in chunks for each in chunk if isinstance(each, Conversation)), most)


def _name(columns: Columns, part: str, there: Sequence[str]) -> str:
    """The column of a part: the one that the recipe names, or the first default that is there."""
    defaults = (part, *_SHAREGPT) if part == "messages" else (part,)
    return getattr(columns, part, None) or next((name for name in defaults if name in there), part)


def _place(columns: Columns, part: str, row: Mapping[str, Any]) -> tuple[Any, str]:
    """A part's value in a row, and its column for messages."""
    name = _name(columns, part, list(row))
    return row.get(name), f"column {shown(name)}"


def _from_messages(row: Mapping[str, Any], columns: Columns, observed: Observed) -> tuple[list[Message], set[int]]:
    """Read conversations from a column of message lists."""
    return messages_of(*_place(columns, "messages", row), observed)


def _from_pair(row: Mapping[str, Any], columns: Columns, observed: Observed) -> tuple[list[Message], set[int]]:
    """A prompt and a completion; each may be a text or a list of messages."""
    messages: list[Message] = []
    skipped: set[int] = set()
    for role, part in (("user", "prompt"), ("assistant", "completion")):
        value, place = _place(columns, part, row)
        if isinstance(value, list):
            more, idle = messages_of(value, place, observed)
            skipped |= {len(messages) + index for index in idle}
            messages += more
        elif role == "user" or value not in (None, ""):
            messages.append({"role": role, "content": text_of(value, place)})
    return messages, skipped


def _from_instruction(row: Mapping[str, Any], columns: Columns, observed: Observed) -> tuple[list[Message], set[int]]:
    """An instruction, its optional input, its output, and earlier questions and answers."""
    messages: list[Message] = []
    history = decoded(row.get("history"))
    for number, turn in enumerate(history or [], start=1):
        if not isinstance(turn, list) or len(turn) != 2:
            raise BadRow("a history that is no list of pairs", f"column 'history', turn {number}: {shown(turn)}")
        for role, text in zip(("user", "assistant"), turn, strict=True):
            messages.append({"role": role, "content": text_of(text, f"column 'history', turn {number}")})
    message = {"role": "user", "content": text_of(*_place(columns, "instruction", row))}
    given, place = _place(columns, "input", row)
    if given not in (None, ""):
        message["input"] = text_of(given, place)
    messages.append(message)
    output, place = _place(columns, "output", row)
    if output not in (None, ""):
        messages.append({"role": "assistant", "content": text_of(output, place)})
    return messages, set()


_READERS = {"messages": _from_messages, "completion": _from_pair, "output": _from_instruction}


def _without_filling(message: Message) -> Message:
    """A message of a row's conversation, its tool calls freed of the null keys that Arrow fills in."""
    return {**message, "tool_calls": _without_nulls(message["tool_calls"])}


def _without_nulls(value: Any) -> Any:
    """A part of a row's conversation without null keys: Arrow gives each object of a column all others' keys."""
    if isinstance(value, dict):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value
