"""Conversations as data sets write them: names of roles and keys, parts, tools, and which turns count."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from red_cli.recipe.sections import Columns
from red_cli.tasks.chat.conversations import Conversation, read_conversations, unread_columns
from red_cli.tasks.chat.messages import Observed
from red_cli.tasks.data.bad_rows import Fault
from red_cli.tasks.data.rows import Rows

USER, ASSISTANT = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yo."}
SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [USER, ASSISTANT]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
CALLED = [USER, {"role": "assistant", "tool_calls": [CALL], "content": ""},
          {"role": "tool", "content": "12"}, ASSISTANT]  # fmt: skip
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
THOUGHT = {"reasoning_content": "greet", "thinking": "greet"}


def share(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": speaker, "value": text} for speaker, text in turns]


def openai(**message: Any) -> list[dict[str, Any]]:
    return [USER, {"role": "assistant", **message}]


# row -> messages
SAME = {
    "ShareGPT": ({"conversations": share(("human", "Hi?"), ("gpt", "Yo."))}, TALK),
    "ShareGPT, other names": ({"conversation": share(("user", "Hi?"), ("chatgpt", "Yo."))}, TALK),
    "ShareGPT with a system column": ({"conversations": share(("human", "Hi?"), ("gpt", "Yo.")), "system": "Be brief."},
                                      [SYSTEM, *TALK]),
    "ShareGPT, system": ({"conversations": share(("system", "Be brief."), ("human", "Hi?"), ("bing", "Yo."))},
                         [SYSTEM, *TALK]),
    "ShareGPT, tools": (
        {"conversations": share(
            ("human", "Hi?"), ("function_call", '{"name": "weather", "arguments": {"city": "Rome"}}'),
            ("observation", "12"), ("gpt", "Yo."),
        )}, CALLED,
    ),
    "capital letters": ({"messages": [{"role": "User", "content": "Hi?"}, {"role": "ASSISTANT", "content": "Yo."}]},
                        TALK),
    "JSON": ({"messages": json.dumps(TALK)}, TALK),
    "JSON of ShareGPT": ({"conversations": json.dumps(share(("human", "Hi?"), ("gpt", "Yo.")))}, TALK),
    "parts": ({"messages": [{"role": role, "content": [{"type": "text", "text": first}, {"type": "text", "text": rest}]}
                            for role, first, rest in (("user", "H", "i?"), ("assistant", "Yo", "."))]}, TALK),
    "calls": ({"messages": CALLED}, CALLED),
    "calls as JSON": ({"messages": openai(tool_calls=json.dumps([CALL]), content="")}, CALLED[:2]),
    "arguments as JSON": (
        {"messages": openai(tool_calls=[{"function": {**CALL["function"], "arguments": '{"city": "Rome"}'}}])},
        CALLED[:2],
    ),
    "the old function_call": (
        {"messages": openai(content=None, function_call={"name": "weather", "arguments": '{"city": "Rome"}'})},
        CALLED[:2],
    ),
    "no calls": ({"messages": openai(content="Yo.", tool_calls=[])}, TALK),
    "reasoning_content": ({"messages": openai(content="Yo.", reasoning_content="greet")},
                          [USER, {**ASSISTANT, **THOUGHT}]),
    "thinking": ({"messages": openai(content="Yo.", thinking="greet")}, [USER, {**ASSISTANT, **THOUGHT}]),
    "a developer": ({"messages": [{"role": "developer", "content": "Be brief."}, *TALK]},
                    [{"role": "developer", "content": "Be brief."}, *TALK]),
    "Alpaca with a system and history": (
        {"system": "Be brief.", "instruction": "Hi?", "input": "", "output": "Yo.", "history": [["a", "b"]]},
        [SYSTEM, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, *TALK],
    ),
    "Alpaca, history as JSON": (
        {"instruction": "Hi?", "output": "Yo.", "history": '[["a", "b"]]'},
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, *TALK],
    ),
    "Alpaca, empty columns": ({"system": "", "instruction": "Hi?", "output": "Yo.", "history": []}, TALK),
    "a system text that looks like JSON": ({"messages": TALK, "system": '{"a": 1}'},
                                           [{"role": "system", "content": '{"a": 1}'}, *TALK]),
}  # fmt: skip


def read(*rows: dict[str, Any], observed: Observed | None = None) -> list[Conversation | Fault]:
    table = Rows(pa.Table.from_pylist(list(rows)), "train.jsonl")
    return read_conversations(table, Columns(), slice(0, None), observed or Observed())


@pytest.mark.parametrize(("row", "messages"), SAME.values(), ids=SAME.keys())
def test_what_people_write_is_one_conversation(row: dict, messages: list) -> None:
    (found,) = read(row)
    assert isinstance(found, Conversation), found
    assert list(found.messages) == messages


# row -> tools, variables, skipped
BESIDES = {
    "tools": ({"messages": TALK, "tools": [TOOL]}, [TOOL], {}, ()),
    "tools as JSON": ({"messages": TALK, "tools": json.dumps([TOOL])}, [TOOL], {}, ()),
    "tools, each as JSON": ({"messages": TALK, "tools": [json.dumps(TOOL)]}, [TOOL], {}, ()),
    "no tools": ({"messages": TALK, "tools": "[]"}, None, {}, ()),
    "variables": ({"messages": TALK, "chat_template_kwargs": {"enable_thinking": False}}, None,
                  {"enable_thinking": False}, ()),
    "variables as JSON": ({"messages": TALK, "chat_template_kwargs": '{"enable_thinking": false}'}, None,
                          {"enable_thinking": False}, ()),
    "weight 0": ({"messages": [USER, {**ASSISTANT, "weight": 0}, USER, {**ASSISTANT, "weight": 1}]}, None, {}, (1,)),
    "train false": ({"messages": [SYSTEM, USER, {**ASSISTANT, "train": False}, *TALK]}, None, {}, (2,)),
    "a system column moves them": ({"system": "x", "messages": [USER, {**ASSISTANT, "weight": 0.0}, *TALK]}, None, {},
                                   (2,)),
    "a user's weight 0": ({"messages": [{**USER, "weight": 0}, ASSISTANT]}, None, {}, ()),
}  # fmt: skip


@pytest.mark.parametrize(("row", "tools", "variables", "skipped"), BESIDES.values(), ids=BESIDES.keys())
def test_what_stands_beside_the_messages(row: dict, tools: Any, variables: dict, skipped: tuple) -> None:
    (found,) = read(row)
    assert isinstance(found, Conversation), found
    assert (found.tools, found.variables, found.skipped) == (tools, variables, frozenset(skipped))


def messages(*changed: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(changed)}


# row -> reason, fact of the detail
BAD = {
    "two users": (messages(USER, USER, ASSISTANT), "a message of the user after one of the user", "message 2"),
    "two assistants": (messages(*TALK, ASSISTANT),
                       "a message of the assistant after one of the assistant", "message 3"),
    "a user after a tool": (messages(*CALLED[:3], USER), "a message of the user after one of the tool", "message 4"),
    "ends with nothing to answer": (messages(SYSTEM), "a system message alone", "only a system message"),
    "starts with the assistant": (
        {"conversations": share(("gpt", "Yo."), ("human", "Hi?"))}, "a message of the assistant at the start",
        "message 1",
    ),
    "a blank turn": (messages(USER, {"role": "assistant", "content": " "}),
                     "a blank turn of the assistant", "message 2"),
    "an image": (
        {"messages": json.dumps([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ASSISTANT])},
        "a part that is not text", "'image_url'",
    ),
    "a column of images": ({"messages": TALK, "images": ["a.png"]}, "an image, a sound or a video", "'images'"),
    "another weight": (messages(USER, {**ASSISTANT, "weight": 0.5}), "a weight other than 0 and 1", "weight is 0.5"),
    "a user to train on": (messages({**USER, "train": True}, ASSISTANT), "a message of the user that is to count "
                           "towards the loss", "message 1"),
    "an unknown role": (messages(USER, {"role": "critic", "content": "x"}), "an unknown role", "'critic'"),
    "a call without a name": (messages(USER, {"role": "assistant", "tool_calls": [{"x": 1}], "content": ""}),
                              "a tool call without a name", "message 2"),
    "a call that is no JSON": ({"conversations": share(("human", "Hi?"), ("function_call", "weather(Rome)"))},
                               "a tool call without a name", "weather(Rome)"),
    "two systems": ({"system": "x", "messages": [SYSTEM, *TALK]}, "two system messages", "'system'"),
    "a history of texts": ({"instruction": "a", "output": "b", "history": ["a"]}, "a history that is no list of pairs",
                           "turn 1"),
    "variables that are taken": ({"messages": TALK, "chat_template_kwargs": {"tools": [1]}},
                                 "chat_template_kwargs that are no variables", "'tools'"),
    "JSON cut off": ({"messages": json.dumps(TALK)[:-3]}, "no list of messages", "'messages'"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "reason", "fact"), BAD.values(), ids=BAD.keys())
def test_what_is_no_conversation_is_a_fault_of_its_row_alone(row: dict, reason: str, fact: str) -> None:
    (bad,) = read(row)
    assert isinstance(bad, Fault)
    assert bad.reason == reason
    assert fact in str(bad.detail)


def test_unread_keys_and_columns_are_known() -> None:
    observed = Observed()
    row = {"id": 1, "messages": [{**USER, "mood": "good"}, {**ASSISTANT, "model": "x"}], "source": "web"}
    read(row, observed=observed)
    assert observed.keys == {"mood", "model"}
    assert unread_columns(Rows(pa.Table.from_pylist([row]), "x"), Columns()) == ["id", "source"]
