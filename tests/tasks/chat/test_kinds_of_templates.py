"""Templates in the manner of today's models: thoughts, tools, system messages in odd places, several by name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, PreTrainedTokenizerFast

from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.tasks.build import build_task
from red_cli.tasks.chat.chat_template import ChatTemplate
from red_cli.tasks.chat.conversations import Conversation
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.text.encoded_texts import EncodedTexts
from tests.failures import fails
from tests.tasks.bound import bound
from tests.tasks.chat.test_chat_template import QWEN, bytes_tokenizer

OPEN = "{{ '<|im_start|>' + m.role + '\\n' }}"
CLOSE = "{{ '<|im_end|>\\n' }}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
CHATML = "{% for m in messages %}" + OPEN + "{{ m.content }}" + CLOSE + "{% endfor %}" + ASK
# Thoughts of answers before the last question are left out; the last answers always have one, perhaps empty
THINKS = (
    "{% set ns = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}" + OPEN + "{% if m.role == 'assistant' %}"
    "{% set thought = m.reasoning_content or '' %}{% set said = m.content %}"
    "{% if '</think>' in said %}{% set thought = said.split('</think>')[0].split('<think>')[-1].strip() %}"
    "{% set said = said.split('</think>')[-1].lstrip() %}{% endif %}"
    "{% if loop.index0 > ns.last %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}{{ said }}"
    "{% for call in m.tool_calls or [] %}"
    "{{ '<tool_call>' + (call.function | tojson) + '</tool_call>' }}{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}" + CLOSE + "{% endfor %}" + ASK
)
# Thoughts are left out everywhere, and the generation prompt opens one
OPENS = (
    "{% for m in messages %}" + OPEN + "{% set said = m.content %}"
    "{% if m.role == 'assistant' %}{% set said = said.split('</think>')[-1].lstrip() %}{% endif %}"
    "{{ said }}" + CLOSE + "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + ('ipython' if m.role == 'tool' else m.role) + '\\n' }}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name + '(' + ARGUMENTS + ')' }}{% endfor %}"
    + CLOSE
    + "{% endfor %}"
    + ASK
)
OBJECTS = TOOLS.replace("ARGUMENTS", "call.function.arguments | tojson")  # as in Llama 3.1
TEXTS = TOOLS.replace("ARGUMENTS", "call.function.arguments")  # as in DeepSeek: a text, or it fails
TILDE = TOOLS.replace("+ ARGUMENTS +", "~ call.function.arguments ~")  # an object would be written as Python
MOVES = (  # as in Mistral: the system message is part of the last question
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content + ' ' %}{% set rest = messages[1:] %}"
    "{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}"
    "{{ '[' + (s if loop.index > rest|length - 2 else '') + m.content + ']' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
NO_SYSTEM = (  # as in Gemma
    "{% if messages[0].role in ('system', 'developer') %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + ('model' if m.role == 'assistant' else m.role) + m.content }}"
    + CLOSE
    + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model' }}{% endif %}"
)
NEEDS_SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ raise_exception('A system message must come first') }}{% endif %}" + CHATML
)
KNOWS_SYSTEM = CHATML.replace(
    "{% for", "{% if messages[0].role == 'developer' %}{{ raise_exception('x') }}{% endif %}{% for"
)


def u(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def a(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def s(text: str, role: str = "system") -> dict[str, str]:
    return {"role": role, "content": text}


CALL = {"type": "function", "function": {"name": "f", "arguments": {"city": "Rome"}}}
CALLED = '<tool_call>{"name": "f", "arguments": {"city": "Rome"}}</tool_call>'
TALK = [u("hi"), a("yo"), u("and"), a("no")]


def tokenizer(template: Any = None) -> PreTrainedTokenizerFast:
    return bytes_tokenizer(QWEN, template, eos_token=QWEN[2], pad_token=QWEN[0])


def encode(template: str, *rows: Any, own: Any = None, **data: Any) -> EncodedTexts:
    table = [{"messages": row} if isinstance(row, list) else row for row in rows]
    table = [{**row, "messages": json.dumps(row["messages"])} for row in table]
    recipe = Recipe.model_validate(
        {
            "task": {"name": "instruction", "template": template},
            "model": {"name_or_path": "base"},
            "data": {"path": "data", **data},
        }
    )
    columns = {name: [row.get(name) for row in table] for name in dict.fromkeys(key for row in table for key in row)}
    encoder = bound(build_task(recipe, LlamaConfig()), tokenizer(own), 4096)
    return encoder.encode(Rows(pa.table(columns), "talks.jsonl"))


def texts(encoded: EncodedTexts) -> list[str]:
    """Each row with the parts that count towards the loss in «»."""
    words, found = tokenizer(), []
    assert encoded.loss_mask is not None
    for row in range(len(encoded)):
        text, before = "", False
        mask = encoded.loss_mask[encoded.offsets[row] : encoded.offsets[row + 1]]
        for token, counts in zip([*encoded.row(row), None], [*mask.tolist(), False], strict=True):
            text += "«" * (counts and not before) + "»" * (before and not counts)
            text += "" if token is None else words.decode([token])
            before = counts
        found.append(text.replace("<|im_start|>", "<").replace("<|im_end|>", ">").replace("\n", "/"))
    return found


# template, rows -> the encoded rows
TRAINED = {
    "one row of a plain template": (CHATML, [TALK], ["<user/hi>/<assistant/«yo>»/<user/and>/<assistant/«no>»/"]),
    "thoughts, one answer": (
        THINKS, [[u("hi"), a("<think>\ngreet\n</think>\n\nyo")]],
        ["<user/hi>/<assistant/«<think>/greet/</think>//yo>»/"],
    ),
    "thoughts, two answers are two rows": (
        THINKS, [TALK],
        ["<user/hi>/<assistant/«<think>//</think>//yo>»/",
         "<user/hi>/<assistant/yo>/<user/and>/<assistant/«<think>//</think>//no>»/"],
    ),
    "thoughts as reasoning_content": (
        THINKS, [[u("hi"), a("yo", reasoning_content="one"), u("and"), a("no", reasoning="two")]],
        ["<user/hi>/<assistant/«<think>/one/</think>//yo>»/",
         "<user/hi>/<assistant/yo>/<user/and>/<assistant/«<think>/two/</think>//no>»/"],
    ),
    "thoughts, answers to one question stay one row": (
        THINKS, [[u("hi"), a("", tool_calls=[CALL], thinking="t"), s("12", "tool"), a("yo")]],
        [f"<user/hi>/<assistant/«<think>/t/</think>//{CALLED}>»/"
         "<tool/12>/<assistant/«<think>//</think>//yo>»/"],
    ),
    "an opened thought": (
        OPENS, [[u("hi"), a("<think>\ngreet\n</think>\n\nyo")]],
        ["<user/hi>/<assistant/<think>/«greet/</think>//yo>»/"],
    ),
    "an opened thought as reasoning_content": (
        OPENS, [[u("hi"), a("yo", reasoning_content="greet")]], ["<user/hi>/<assistant/<think>/«greet/</think>//yo>»/"],
    ),
    "opened thoughts, two answers": (
        OPENS, [[u("hi"), a("one</think>yo"), u("and"), a("two</think>no")]],
        ["<user/hi>/<assistant/<think>/«one</think>yo>»/",
         "<user/hi>/<assistant/yo>/<user/and>/<assistant/<think>/«two</think>no>»/"],
    ),
    "calls and tools": (
        OBJECTS,
        [{"messages": [u("hi"), a("", tool_calls=[CALL]), s("12", "tool"), a("yo")], "tools": '[{"name": "f"}]'}],
        ['<system/[{"name": "f"}]>/<user/hi>/<assistant/«f({"city": "Rome"})>»/<ipython/12>/<assistant/«yo>»/'],
    ),
    "calls whose arguments are text": (
        TEXTS, [[u("hi"), a("", tool_calls=[CALL])]], ['<user/hi>/<assistant/«f({"city": "Rome"})>»/'],
    ),
    "calls whose arguments would be Python": (
        TILDE, [[u("hi"), a("", tool_calls=[CALL])]], ['<user/hi>/<assistant/«f({"city": "Rome"})>»/'],
    ),
    "a system message that moves": (
        MOVES, [[s("S"), *TALK]], ["[S hi]«yo>»", "[hi]yo>[S and]«no>»"],
    ),
    "no system message": (NO_SYSTEM, [TALK[:2]], ["<userhi>/<model«yo>»/"]),
    "a system message is needed": (
        NEEDS_SYSTEM, [[s("S"), *TALK[:2]]], ["<system/S>/<user/hi>/<assistant/«yo>»/"],
    ),
    "a developer's message": (
        CHATML, [[s("S", "developer"), *TALK[:2]]], ["<developer/S>/<user/hi>/<assistant/«yo>»/"],
    ),
    "a developer's message as the system's": (
        KNOWS_SYSTEM, [[s("S", "developer"), *TALK[:2]]], ["<system/S>/<user/hi>/<assistant/«yo>»/"],
    ),
    "a turn of weight 0": (
        CHATML, [[u("hi"), a("yo", weight=0), u("and"), a("no")]],
        ["<user/hi>/<assistant/yo>/<user/and>/<assistant/«no>»/"],
    ),
    "a last turn of weight 0": (CHATML, [[*TALK[:3], a("no", train=False)]], ["<user/hi>/<assistant/«yo>»/"]),
    "a rewritten turn of weight 0": (
        THINKS, [[u("hi"), a("yo", weight=0), u("and"), a("no")]],
        ["<user/hi>/<assistant/yo>/<user/and>/<assistant/«<think>//</think>//no>»/"],
    ),
    "variables of a row": (
        CHATML.replace("{{ m.content }}", "{{ (mood or '') + m.content }}"),
        [{"messages": TALK[:2], "chat_template_kwargs": '{"mood": "!"}'}], ["<user/!hi>/<assistant/«!yo>»/"],
    ),
    "marks": (
        CHATML.replace("{{ m.content }}" + CLOSE, "{% if m.role == 'assistant' %}{% generation %}{{ m.content + "
                       "'<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content }}" + CLOSE + "{% endif %}"),
        [[u("hi"), a("yo", weight=0), u("and"), a("no")]],
        ["<user/hi>/<assistant/yo><user/and>/<assistant/«no>»"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("template", "rows", "expected"), TRAINED.values(), ids=TRAINED.keys())
def test_what_counts_towards_the_loss(template: str, rows: list, expected: list[str]) -> None:
    encoded = encode(template, *rows)
    assert texts(encoded) == expected
    assert [encoded.rows.number(row) for row in range(len(encoded))] == [1] * len(expected)
    words = tokenizer()
    for row, prompt in enumerate(encoded.prompts):  # what is generated from is what stands before the last answer
        ids = words(prompt, add_special_tokens=False)["input_ids"]
        mask = encoded.loss_mask[encoded.offsets[row] : encoded.offsets[row + 1]]
        assert encoded.row(row)[: len(ids)].tolist() == ids
        assert mask[len(ids)]
        assert not mask[len(ids) - 1]


def test_answers_are_scored_as_they_are_trained() -> None:
    """A content stands for itself; a thought or a call is part of the text that a model is to write."""
    rows = [u("hi"), a("yo", reasoning_content="greet"), u("and"), a("no", tool_calls=[CALL])]
    encoded = encode(THINKS, rows)
    assert encoded.completions is not None
    assert list(encoded.completions) == [
        "<think>\ngreet\n</think>\n\nyo",
        f"<think>\n\n</think>\n\nno{CALLED}",
    ]
    assert list(encode(CHATML, TALK).completions or ()) == ["no"]


# template, rows -> what the notes contain
NOTES = {
    "rewritten": (THINKS, [TALK, TALK[:2]], ["rewrites earlier turns", "1 conversation", "2 rows"]),
    "opened": (OPENS, [[u("hi"), a("one</think>yo")]], ["opens a thought", "1 answer"]),
    "a developer": (KNOWS_SYSTEM, [[s("S", "developer"), *TALK[:2]]], ["developer", "1 conversation"]),
    "weights": (CHATML, [[u("hi"), a("yo", weight=0), u("and"), a("no")]], ["1 turn"]),
    "not read": (
        CHATML,
        [{"messages": [{**u("hi"), "mood": "good"}, a("yo")], "id": 7, "chat_template_kwargs": '{"thinking": true}'}],
        ["columns id", "keys of messages mood", "template variables thinking"],
    ),
    "roles": (CHATML, [[{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]], ["human as user"]),
    "a key that the template reads": (
        CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.mood }}"), [[{**u("hi"), "mood": "good"}, a("yo")]], [],
    ),
    "nothing": (CHATML, [TALK], []),
}  # fmt: skip


@pytest.mark.parametrize(("template", "rows", "facts"), NOTES.values(), ids=NOTES.keys())
def test_what_is_changed_or_not_read_is_noted_once(template: str, rows: list, facts: list[str]) -> None:
    notes = encode(template, *rows).notes
    assert len(notes) == bool(facts)
    for fact in facts:
        assert fact in notes[0]


# template, row -> code, facts
REFUSED = {
    "calls": (CHATML, [u("hi"), a("yo", tool_calls=[CALL])], "invalid-row", ["row 1", "message 2", "tool calls"]),
    "reasoning": (CHATML, [u("hi"), a("yo", reasoning_content="x")], "invalid-row", ["message 2", "reasoning_content"]),
    "tools": (CHATML, {"messages": TALK, "tools": '[{"name": "f"}]'}, "invalid-row", ["row 1", "'tools'"]),
    "a thought": (OPENS.replace("<think>\\n", ""), [u("hi"), a("x</think>yo")], "invalid-row",
                  ["message 2", "thought"]),
    "a text with calls": (
        CHATML.replace("{{ m.content }}", "{{ m.tool_calls or m.content }}"), [u("hi"), a("yo", tool_calls=[CALL])],
        "invalid-row", ["message 2", "a text together with tool calls"],
    ),
    "a system message": (
        CHATML.replace("{{ m.content }}", "{{ m.content if m.role != 'system' }}").replace(
            OPEN, "{% if m.role != 'system' %}" + OPEN + "{% endif %}").replace(
            CLOSE, "{% if m.role != 'system' %}" + CLOSE + "{% endif %}"),
        [s("S"), *TALK], "invalid-row", ["message 1", "system"],
    ),
    "no thought where one is open": (OPENS, [u("hi"), a("yo")], "invalid-template", ["row 1", "message 2", "<think>"]),
    "a system message that is refused": (
        NO_SYSTEM, [s("S"), *TALK], "invalid-template", ["row 1", "System role not supported"],
    ),
    "another beginning": (
        CHATML.replace(ASK, "{% if add_generation_prompt %}{{ '<|im_start|>bot' }}{% endif %}"), TALK[:2],
        "invalid-template", ["row 1", "message 2", "<|im_start|>bot"],
    ),
    "no turn that counts": (CHATML, [u("hi"), a("yo", weight=0)], "invalid-row", ["row 1", "no turn"]),
}  # fmt: skip


@pytest.mark.parametrize(("template", "row", "code", "facts"), REFUSED.values(), ids=REFUSED.keys())
def test_what_a_template_leaves_out_is_refused(template: str, row: Any, code: str, facts: list[str]) -> None:
    with fails(code, "talks.jsonl", *facts):
        encode(template, row)


MIXED = [TALK, [u("hi"), a(" ")], [s("S"), *TALK], [u("hi"), u("hi"), a("yo")], [u("hi"), a("")], TALK[:3]]


def test_bad_rows_are_counted_by_reason() -> None:
    with fails("invalid-row", "5 of 6 rows", "2 with a blank turn of the assistant (rows 2, 5)", "(row 3)", "(row 4)",
               "(row 6)", "System role not supported", "data.bad_rows=drop"):  # fmt: skip
        encode(NO_SYSTEM, *MIXED)


def test_bad_rows_are_dropped_where_that_is_asked() -> None:
    encoded = encode(NO_SYSTEM, *MIXED, bad_rows="drop")
    assert len(encoded) == 1
    assert sum(encoded.left_out.values()) == 5
    assert any("(rows 2, 5)" in reason and count == 2 for reason, count in encoded.left_out.items())
    assert encoded.kept is not None
    assert encoded.kept.tolist() == [0]
    with fails("no-rows"):
        encode(CHATML, MIXED[1], bad_rows="drop")


def test_dropped_and_rewritten_rows_keep_their_numbers() -> None:
    rows = [[u("hi"), a(" ")], TALK, TALK[:2]]
    encoded = encode(THINKS, *rows, bad_rows="drop", too_long="drop")
    assert [encoded.rows.number(row) for row in range(3)] == [2, 2, 3]
    assert encoded.kept is not None
    assert encoded.kept.tolist() == [1, 1, 2]
    assert encoded.numbers is not None
    assert encoded.numbers.tolist() == [0, 1, 0]
    assert encoded.prompts[:] == list(encoded.prompts) == [encoded.prompts[row] for row in range(3)]
    for row, prompt in enumerate(encoded.prompts):
        assert prompt == tokenizer().decode(encoded.parts(row)[0])


NAMED = {"tool_use": OBJECTS, "rag": CHATML}


def test_one_of_several_templates_is_chosen_by_its_name() -> None:
    with fails("invalid-template", "rag, tool_use", "task.template=own:rag"):
        encode("own", TALK, own=NAMED)
    with fails("invalid-template", "'chat'", "rag, tool_use"):
        encode("own:chat", TALK, own=NAMED)
    assert texts(encode("own:rag", TALK, own=NAMED)) == texts(encode(CHATML, TALK))
    row = {"messages": TALK, "tools": '[{"name": "f"}]'}  # as transformers does
    both = {"default": CHATML, "tool_use": OBJECTS}
    assert texts(encode("own", row, TALK, own=both)) == [*texts(encode(OBJECTS, row)), *texts(encode(CHATML, TALK))]


@pytest.mark.parametrize("template", [NEEDS_SYSTEM, NO_SYSTEM, OPENS, THINKS, MOVES])
def test_the_end_is_found_without_data(template: str) -> None:
    chat = ChatTemplate.of(TemplateChoice(template, {}), tokenizer())
    assert chat.end == tokenizer().convert_tokens_to_ids("<|im_end|>")


def test_the_end_is_found_from_the_data_where_a_template_refuses_all_else() -> None:
    template = "{% if not tools %}{{ raise_exception('no tools') }}{% endif %}" + OBJECTS
    with fails("invalid-template", "no tools"):
        ChatTemplate.of(TemplateChoice(template, {}), tokenizer())
    first = Conversation([u("hi"), a("yo<|endoftext|>")], tools=[{"name": "f"}])
    chat = ChatTemplate.of(TemplateChoice(template, {}), tokenizer(), [first])
    assert chat.end == tokenizer().convert_tokens_to_ids("<|im_end|>")


SAYS = "{{ m.content }}"
REST = CHATML.replace("messages", "rest")
CAUSAL = {
    "a loop": CHATML,
    "a refused role": NO_SYSTEM.replace("('system', 'developer')", "('developer',)"),
    "numbers": CHATML.replace(SAYS, "{{ loop.index0 }}{{ m.content }}"),
    "without the first": (
        "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{{ messages[0].content }}{% else %}"
        "{% set rest = messages %}{% endif %}" + REST
    ),
    "a count of those before": "{% set n = namespace(k=0) %}"
    + CHATML.replace(SAYS, "{% set n.k = n.k + 1 %}{{ n.k }}"),
}
OTHERS = {
    "thoughts": THINKS,
    "a system message that moves": MOVES,
    "a choice": "{% set rest = messages[1:] if messages[0].role == 'system' else messages %}" + REST,
    "all but the last": "{% set rest = messages[:-1] %}" + REST,
    "a length after": CHATML + "{{ messages|length }}",
    "the last": CHATML.replace(SAYS, "{{ loop.last }}"),
    "the next": CHATML.replace(SAYS, "{{ loop.nextitem is defined }}"),
    "a count after": "{% set n = namespace(k=0) %}" + CHATML.replace(SAYS, "{% set n.k = n.k + 1 %}") + "{{ n.k }}",
    "what is asked": CHATML.replace(SAYS, "{% if add_generation_prompt %}x{% endif %}"),
    "what is asked, before": "{% if add_generation_prompt %}x{% endif %}" + CHATML,
    "some messages": CHATML.replace(SAYS, "{% if m.content == 'a' %}{% continue %}{% endif %}"),
    "a condition": CHATML.replace("in messages", "in messages if m.content != 'a'"),
    "backwards": CHATML.replace("in messages", "in messages | reverse"),
    "a second loop": CHATML + CHATML,
    "a macro": "{% macro k() %}{{ messages|length }}{% endmacro %}" + CHATML.replace(SAYS, "{{ k() }}"),
    "all in a choice": "{% if messages %}" + CHATML + "{% endif %}",
}
CHATS = {
    name: replace(ChatTemplate.of(TemplateChoice(CHATML, {}), tokenizer()), text=text)
    for name, text in {**CAUSAL, **OTHERS}.items()
}


@pytest.mark.parametrize("name", CHATS)
@given(contents=st.lists(st.text(st.sampled_from("ab \n<|"), max_size=6), min_size=2, max_size=7))
def test_one_rendering_has_the_beginnings_of_all(name: str, contents: list[str]) -> None:
    """The beginnings are those that the template renders by itself, whether one rendering has them or not."""
    roles = ["system"] * (len(contents) % 2) + ["user", "assistant"] * 3
    talk = Conversation([{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)])
    chat = CHATS[name]
    places = [place for place, message in enumerate(talk.messages) if message["role"] == "assistant"]
    (turns,) = chat.turns([(talk, places)])
    assert turns == (
        [chat.render(talk.until(place), ask=True) for place in places],
        [chat.render(talk.until(place + 1), ask=False) for place in places],
    )


def test_templates_that_write_message_after_message_are_rendered_once() -> None:
    assert {name for name, chat in CHATS.items() if chat._causal is not None} == CAUSAL.keys()
