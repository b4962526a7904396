"""Conversations in the form that a template takes: developer's messages, and arguments of tool calls.

Templates disagree: many refuse the role developer, and some need a call's arguments as an object, others as its JSON.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from red_cli.tasks.chat.chat_template import ChatTemplate, TemplateFault
from red_cli.tasks.chat.conversations import Conversation
from red_cli.tasks.chat.messages import Message


def adapted(template: ChatTemplate, conversation: Conversation) -> tuple[Conversation, bool]:
    """The conversation as the template takes it, and whether the developer's messages became system messages.

    Raises:
        TemplateFault: the template fails on the arguments of tool calls, whatever their form.
    """
    messages = conversation.messages
    renamed = any(message["role"] == "developer" for message in messages)
    if renamed:
        renamed = not _writes_developer(template, conversation)
        if renamed:
            conversation = replace(conversation, messages=[_as_system(message) for message in messages])
    if any("tool_calls" in message for message in messages):
        conversation = _with_arguments(template, conversation)
    return conversation, renamed


def _writes_developer(template: ChatTemplate, conversation: Conversation) -> bool:
    """Whether the template takes and writes the messages of the developer."""
    texts = [message["content"].strip() for message in conversation.messages if message["role"] == "developer"]
    try:
        text = template.render(conversation, ask=not conversation.answered)
    except TemplateFault:
        return False
    return all(content in text for content in texts)


def _as_system(message: Message) -> Message:
    """The message, with the role system in place of developer, for a template that refuses developers."""
    return {**message, "role": "system"} if message["role"] == "developer" else message


def _with_arguments(template: ChatTemplate, conversation: Conversation) -> Conversation:
    """The conversation with arguments as objects, or as JSON if the template fails on objects or writes Python."""
    as_json = replace(conversation, messages=[_with_json(message) for message in conversation.messages])
    ask = not conversation.answered
    try:
        text = template.render(conversation, ask)
    except TemplateFault as fault:
        try:
            template.render(as_json, ask)
        except TemplateFault:
            raise fault from None
        return as_json
    objects = [
        call["function"]["arguments"]
        for message in conversation.messages
        for call in message.get("tool_calls", ())
        if not isinstance(call["function"]["arguments"], str)
    ]
    in_python = any(str(given) != _json(given) and str(given) in text for given in objects)
    return as_json if in_python else conversation


def _with_json(message: Message) -> Message:
    """The message with the arguments of its tool calls as JSON."""
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        written = arguments if isinstance(arguments, str) else _json(arguments)
        calls.append({**call, "function": {**call["function"], "arguments": written}})
    return {**message, "tool_calls": calls}


def _json(value: Any) -> str:
    """The arguments of a tool call in the form of JSON text that some templates take, non-ASCII unescaped."""
    return json.dumps(value, ensure_ascii=False)
