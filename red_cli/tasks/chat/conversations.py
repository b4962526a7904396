"""Rows -> conversations: lists of messages, prompts with completions, or instructions with outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_cli.errors import UserError, shown
from red_cli.recipe.sections import Columns
from red_cli.tasks.data.rows import Rows

Message = Mapping[str, str]  # role, content; for an instruction also input, if it has one
Conversation = Sequence[Message]

# The columns of each form of conversation, in the order of search; the last of each counts towards the loss.
_FORMS = {"messages": ("messages",), "completion": ("prompt", "completion"), "output": ("instruction", "output")}
_ROLES = ("system", "user", "assistant")


def form_of(rows: Rows, columns: Columns) -> str:
    """The form of the rows: "messages", "completion" or "output".

    A form with a column named in data.columns comes first, then the first form with all of its columns, then the first
    with a prompt or an instruction alone: such rows are to be answered.

    Raises:
        UserError: the rows have no such columns.
    """
    there = rows.table.column_names
    named = [form for form, parts in _FORMS.items() if any(getattr(columns, part) for part in parts)]
    complete = [form for form, parts in _FORMS.items() if all(_name(columns, part) in there for part in parts)]
    asked = [form for form, parts in _FORMS.items() if _name(columns, parts[0]) in there]
    for form in (*named, *complete, *asked):
        return form
    raise UserError(
        "column-not-found",
        f"{rows.source} has no conversations; its columns are {', '.join(there)}",
        hint="Needed: messages, or prompt and completion, or instruction and output; map names with data.columns.",
    )


def label_column(columns: Columns) -> str:
    """The column that counts towards the loss, as far as it is known before rows are read."""
    named = [parts[-1] for parts in _FORMS.values() if any(getattr(columns, part) for part in parts)]
    return _name(columns, named[0] if named else "messages")


def columns_of(rows: Rows, columns: Columns) -> list[str]:
    """The columns of a split that its conversations are read from."""
    form = form_of(rows, columns)
    parts = ("instruction", "input", "output") if form == "output" else _FORMS[form]
    return [name for part in parts if (name := _name(columns, part)) in rows.table.column_names]


def conversations_of(rows: Rows, columns: Columns) -> list[Conversation]:
    """Read and check conversations: an optional system message, then user and assistant alternate.

    All end with the assistant, to train on, or all end with the user, to be answered.

    Raises:
        UserError: a column is missing; or a conversation does not alternate, has no message, a message that is blank or
            not text, or no answer although others have one.
    """
    form = form_of(rows, columns)
    found = _READERS[form](rows, columns)
    for row, conversation in enumerate(found):
        _require_turns(conversation, f"{rows.source}, row {rows.number(row)}")
    unanswered = [row for row, conversation in enumerate(found) if conversation[-1]["role"] == "user"]
    if unanswered and len(unanswered) < len(found):
        where = f"{rows.source}, row {rows.number(unanswered[0])}"
        if all(message["role"] != "assistant" for message in found[unanswered[0]]):
            raise UserError("invalid-row", f"{where}: the assistant has no turn to train on", hint=_DROP)
        raise UserError("invalid-row", f"{where}: the conversation ends with the user", hint=_DROP)
    return found


_DROP = "Drop the row, or its last message; in a split to be answered, every row ends with the user."


def are_answered(conversations: Sequence[Conversation]) -> bool:
    """Whether the conversations end with the assistant; this is the same for all."""
    return bool(conversations) and conversations[0][-1]["role"] == "assistant"


def without_answer(conversation: Conversation) -> Conversation:
    """A conversation up to the last turn of the user."""
    return conversation[:-1] if conversation[-1]["role"] == "assistant" else conversation


def _name(columns: Columns, part: str) -> str:
    return getattr(columns, part) or part


def _from_messages(rows: Rows, columns: Columns) -> list[Conversation]:
    name = _name(columns, "messages")
    return [
        _messages(value, f"{rows.source}, row {rows.number(row)}, column {shown(name)}")
        for row, value in enumerate(rows.column(name))
    ]


def _messages(value: Any, where: str) -> Conversation:
    if not isinstance(value, list) or not value:
        raise UserError(
            "invalid-row",
            f"{where}: expected a list of messages, got {'an empty one' if value == [] else shown(value)}",
            hint='A message is an object such as {"role": "user", "content": "Good morning."}',
        )
    messages: list[Message] = []
    for number, message in enumerate(value, start=1):
        place = f"{where}, message {number}"
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise UserError("invalid-row", f"{place}: expected role and content, got {shown(message)}")
        if message["role"] not in _ROLES:
            raise UserError("invalid-row", f"{place}: role {shown(message['role'])} is not one of {', '.join(_ROLES)}")
        messages.append({"role": message["role"], "content": _text(message["content"], f"{place}: content")})
    return messages


def _from_pairs(rows: Rows, columns: Columns) -> list[Conversation]:
    """Prompts and completions; each may be a text or a list of messages."""
    prompts = _column(rows, columns, "prompt")
    completions = _column(rows, columns, "completion")
    found: list[Conversation] = []
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        where = f"{rows.source}, row {rows.number(row)}"
        parts: list[Message] = []
        for role, name, value in (("user", "prompt", prompt), ("assistant", "completion", completion)):
            place = f"{where}, column {shown(_name(columns, name))}"
            if isinstance(value, list):
                parts += _messages(value, place)
            elif role == "user" or value not in (None, ""):
                parts.append({"role": role, "content": _text(value, place)})
        found.append(parts)
    return found


def _from_instructions(rows: Rows, columns: Columns) -> list[Conversation]:
    """Instructions, their optional inputs, and outputs."""
    instructions = _column(rows, columns, "instruction")
    inputs, outputs = _column(rows, columns, "input"), _column(rows, columns, "output")
    found: list[Conversation] = []
    for row, (instruction, given, output) in enumerate(zip(instructions, inputs, outputs, strict=True)):
        where = f"{rows.source}, row {rows.number(row)}, column"
        message = {"role": "user", "content": _text(instruction, f"{where} {shown(_name(columns, 'instruction'))}")}
        if given not in (None, ""):
            message["input"] = _text(given, f"{where} {shown(_name(columns, 'input'))}")
        answered = [] if output in (None, "") else [_text(output, f"{where} {shown(_name(columns, 'output'))}")]
        found.append([message, *({"role": "assistant", "content": text} for text in answered)])
    return found


_READERS = {"messages": _from_messages, "completion": _from_pairs, "output": _from_instructions}


def _column(rows: Rows, columns: Columns, part: str) -> list[Any]:
    """A column's values; None for each row if the column does not exist and the recipe does not name it."""
    name = _name(columns, part)
    if name not in rows.table.column_names and getattr(columns, part) is None:
        return [None] * rows.table.num_rows
    return rows.column(name)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError("invalid-row", f"{where} {'is null' if value is None else f'is {shown(value)}, not text'}")
    return value


def _require_turns(conversation: Conversation, where: str) -> None:
    """Check that user and assistant alternate, and that no turn is blank."""
    turns = conversation[1:] if conversation[0]["role"] == "system" else conversation
    if not turns:
        raise UserError("invalid-row", f"{where}: the conversation has only a system message")
    skipped = len(conversation) - len(turns)
    for place, message in enumerate(turns):
        wanted = ("user", "assistant")[place % 2]
        number = skipped + place + 1
        if message["role"] != wanted:
            raise UserError(
                "invalid-row",
                f"{where}, message {number}: expected a message of the {wanted}, got one of the {message['role']}",
                hint="After an optional system message, user and assistant alternate.",
            )
        if not message["content"].strip() and "input" not in message:
            raise UserError(
                "invalid-row", f"{where}, message {number}: the {wanted}'s turn is blank", hint="Drop the row."
            )
