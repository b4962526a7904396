"""The instruction task: conversations from rows, loss masks, and errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaConfig, PreTrainedTokenizerFast

from red_cli.recipe.load import load_recipe
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Columns
from red_cli.tasks.base import Generated, Prediction
from red_cli.tasks.build import build_task
from red_cli.tasks.chat.conversations import Conversation, read_conversations
from red_cli.tasks.chat.instruction import InstructionTask
from red_cli.tasks.chat.messages import Observed
from red_cli.tasks.data.file_rows import read_file_rows
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.text.encoded_texts import IGNORED, EncodedTexts
from tests.failures import fails
from tests.tasks.bound import bound
from tests.tasks.chat.test_chat_template import bytes_tokenizer

USER, ASSISTANT = {"role": "user", "content": "Say ab."}, {"role": "assistant", "content": "ab"}
TALK = [USER, ASSISTANT]
LINES = (
    "{%- for message in messages %}\n"
    "{%- if message.role == 'assistant' %}{{ message.content + eos_token }}\n"
    "{%- else %}{{ message.content + '|' }}\n"
    "{%- endif %}\n"
    "{%- endfor %}"
)


def rows_of(tmp_path: Path, rows: list[dict]) -> Rows:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return replace(read_file_rows([path]), source="train.jsonl")


def task_of(template: str = LINES, **data: object) -> InstructionTask:
    recipe = Recipe.model_validate(
        {
            "task": {"name": "instruction", "template": template},
            "model": {"name_or_path": "base"},
            "data": {"path": "data", **data},
        }
    )
    task = build_task(recipe, LlamaConfig())
    assert isinstance(task, InstructionTask)
    return task


def tokenizer() -> PreTrainedTokenizerFast:
    return bytes_tokenizer(["</s>"], eos_token="</s>")


FORMS = {
    "messages": ({"messages": TALK}, {}),
    "messages and other columns": ({"prompt": "x", "messages": TALK, "output": "y"}, {}),
    "mapped messages": ({"prompt": "x", "messages": [USER], "chosen": TALK}, {"messages": "chosen"}),
    "prompt and completion": ({"prompt": "Say ab.", "completion": "ab"}, {}),
    "prompt and completion as messages": ({"prompt": [USER], "completion": [ASSISTANT]}, {}),
    "mapped prompt and completion": ({"q": "Say ab.", "a": "ab"}, {"prompt": "q", "completion": "a"}),
    "instruction": ({"instruction": "Say ab.", "output": "ab"}, {}),
    "instruction, input empty": ({"instruction": "Say ab.", "input": "", "output": "ab"}, {}),
    "mapped instruction": ({"task": "Say ab.", "answer": "ab"}, {"instruction": "task", "output": "answer"}),
}


def read(rows: Rows, **columns: str) -> Conversation:
    """The conversation of the only row."""
    (found,) = read_conversations(rows, Columns(**columns), slice(0, None), Observed())
    assert isinstance(found, Conversation), found
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_rows_is_the_same_conversation(form: str, tmp_path: Path) -> None:
    row, columns = FORMS[form]
    assert read(rows_of(tmp_path, [row]), **columns).messages == TALK


def test_an_input_stays_apart_until_the_template_is_known(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [{"instruction": "Add.", "input": "1 2", "output": "3"}])
    assert read(rows).messages[0] == {"role": "user", "content": "Add.", "input": "1 2"}
    encoded = bound(task_of(), tokenizer(), 64).encode(rows)
    assert tokenizer().decode(encoded.row(0)) == "Add.\n\n1 2|3</s>"


def test_labels_are_the_tokens_of_every_answer(tmp_path: Path) -> None:
    """A position predicts the next token; both answers with their end tokens count, and nothing else."""
    task, words = task_of(), tokenizer()
    rows = rows_of(tmp_path, [{"messages": [*TALK, {"role": "user", "content": "c"}, ASSISTANT]}, {"messages": TALK}])
    encoder = bound(task, words)
    encoded = encoder.encode(rows)
    batch = encoder.collate(encoded, np.array([1, 0]))
    text = "Say ab.|ab</s>c|ab</s>"
    assert words.decode(encoded.row(0)) == text
    answers = words("ab</s>", add_special_tokens=False)["input_ids"]
    assert batch.labels is not None
    for row, starts in ((0, [8]), (1, [8, 13])):
        expected = np.full(batch.labels.shape[1], IGNORED)
        for start in starts:
            expected[start - 1 : start + 2] = answers
        assert batch.labels[row].tolist() == expected.tolist()
    assert encoded.labels is not None
    assert encoded.labels.tolist() == [6, 3]
    assert batch.weight == 9
    assert encoder.show(encoded, 0).loss_mask == [False] * 8 + [True] * 3 + [False] * 2 + [True] * 3


def test_all_tokens_are_learnt_where_prompts_are(tmp_path: Path) -> None:
    task = replace(task_of(), train_on_prompt=True)
    encoded = bound(task, tokenizer(), 64).encode(rows_of(tmp_path, [{"messages": TALK}]))
    assert encoded.labels is not None
    assert encoded.labels.tolist() == [len(encoded.row(0)) - 1]


LONG = {"messages": [USER, {"role": "assistant", "content": "a" * 40}]}
LONG_PROMPT = {"messages": [{"role": "user", "content": "a" * 20}, ASSISTANT]}
# too_long, max_prompt_length -> rows that stay, tokens of each, cut, left out
FILTERS = {
    "cut": ({}, [0, 1, 2], [11, 24, 24], 1, {}),
    "drop": ({"too_long": "drop"}, [0, 2], [11, 24], 0, {"more than 24 tokens": 1}),
    "prompt": ({"max_prompt_length": 12}, [0, 1], [11, 24], 1, {"a prompt of more than 12 tokens": 1}),
    "both": (
        {"too_long": "drop", "max_prompt_length": 12},
        [0],
        [11],
        0,
        {"more than 24 tokens": 1, "a prompt of more than 12 tokens": 1},
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_long_rows_are_cut_or_left_out_and_counted(name: str, tmp_path: Path) -> None:
    options, kept, lengths, cut, left_out = FILTERS[name]
    rows = rows_of(tmp_path, [{"messages": TALK}, LONG, LONG_PROMPT])
    encoded = bound(task_of(**options), tokenizer(), 24).encode(rows)
    assert isinstance(encoded, EncodedTexts)
    assert encoded.lengths.tolist() == lengths
    assert (encoded.truncated, encoded.ends_cut, encoded.left_out) == (cut, cut, left_out)
    assert [encoded.kept_rows("train", rows).number(row) - 1 for row in range(len(encoded))] == kept
    if "more than 24 tokens" in left_out:
        assert "with more than 24 tokens" in str(encoded.kept_rows("train", rows).selection)


def test_a_split_without_answers_is_to_be_answered(tmp_path: Path) -> None:
    task = task_of()
    encoded = bound(task, tokenizer(), 64).encode(
        rows_of(tmp_path, [{"messages": [USER]}, {"messages": [*TALK, USER]}])
    )
    assert encoded.labels is None
    assert tokenizer().decode(encoded.row(1)) == "Say ab.|ab</s>Say ab.|"


# rows, data options, code, fact
BAD_ROWS = {
    "two users": ([[USER, USER, ASSISTANT]], {}, "invalid-row", "message 2: expected a message of the assistant"),
    "assistant first": ([[ASSISTANT, USER]], {}, "invalid-row", "row 1: message 1: expected a message of the user"),
    "late system": (
        [[*TALK, {"role": "system", "content": "x"}, ASSISTANT]], {}, "invalid-row", "row 1: message 3",
    ),
    "ends with the user": ([TALK, [*TALK, USER]], {}, "invalid-row", "row 2: the conversation ends with the user"),
    "no assistant": ([TALK, [USER]], {}, "invalid-row", "row 2: the conversation ends"),
    "system alone": ([[{"role": "system", "content": "x"}]], {}, "invalid-row", "row 1: the conversation has only"),
    "another role": ([[USER, {"role": "critic", "content": "x"}]], {}, "invalid-row", "message 2: role 'critic'"),
    "no content": ([[USER, {"role": "assistant"}]], {}, "invalid-row", "row 1: column 'messages', message 2: content"),
    "content null": ([[USER, {"role": "assistant", "content": None}]], {}, "invalid-row", "message 2: content is null"),
    "blank answer": ([[USER, {"role": "assistant", "content": " "}]], {}, "invalid-row", "message 2: the assistant"),
    "no messages": ([TALK, []], {}, "invalid-row", "row 2: column 'messages'"),
    "text": (["hello"], {}, "invalid-row", "row 1: column 'messages': expected a list of messages, got 'hello'"),
    "answer cut off": ([TALK, LONG_PROMPT["messages"]], {}, "too-long", "16 tokens, the first is row 2"),
    "too long": ([TALK, LONG["messages"]], {"too_long": "refuse"}, "too-long", "1 of 2 rows are longer than 16 tokens"),
    "none left": ([LONG["messages"]], {"too_long": "drop"}, "no-rows", "more than 16 tokens"),
}  # fmt: skip


@pytest.mark.parametrize(("conversations", "options", "code", "fact"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_bad_conversations(tmp_path: Path, conversations: list, options: dict, code: str, fact: str) -> None:
    rows = rows_of(tmp_path, [{"messages": conversation} for conversation in conversations])
    with fails(code, fact):
        bound(task_of(**options), tokenizer(), 16).encode(rows)


BAD_COLUMNS = {
    "none": ({"text": "x"}, {}, "column-not-found", "its columns are text"),
    "named, not there": ({"messages": TALK}, {"messages": "talks"}, "column-not-found", "'talks'"),
    "prompt null": ({"prompt": None, "completion": "x"}, {}, "invalid-row", "row 1: column 'prompt' is null"),
    "output a number": ({"instruction": "x", "output": 3}, {}, "invalid-row", "row 1: column 'output' is 3"),
}


@pytest.mark.parametrize(("row", "columns", "code", "fact"), BAD_COLUMNS.values(), ids=BAD_COLUMNS.keys())
def test_bad_columns(tmp_path: Path, row: dict, columns: dict, code: str, fact: str) -> None:
    with fails(code, "train.jsonl", fact):
        bound(task_of(columns=columns), tokenizer(), 64).encode(rows_of(tmp_path, [row]))


RAISES = "{%- if messages[0].role == 'system' %}\n{{ raise_exception('no system here') }}\n{%- endif %}\n" + LINES
SYSTEM = {"role": "system", "content": "x"}
# template, conversation, fact
BAD_TEMPLATES = {
    "syntax": ("{% for message in messages %}\n{{ message.content }\n{% endfor %}", TALK, "the chat template, line 2:"),
    "raises": (RAISES, [SYSTEM, *TALK], "train.jsonl, row 1: the chat template, line 2: no system here"),
    "undefined": ("{{ messages[0].content }}\n\n{{ persona.name }}{{ eos_token }}", TALK, "the chat template, line 3:"),
    "no end": ("{% for message in messages %}{{ message.content }}{% endfor %}", TALK, "task.template=<file>"),
}  # fmt: skip


@pytest.mark.parametrize(("template", "conversation", "fact"), BAD_TEMPLATES.values(), ids=BAD_TEMPLATES.keys())
def test_bad_templates(tmp_path: Path, template: str, conversation: list, fact: str) -> None:
    with fails("invalid-template", fact):
        bound(task_of(template), tokenizer(), 64).encode(rows_of(tmp_path, [{"messages": conversation}]))


def test_a_base_without_a_template_names_the_others(tmp_path: Path) -> None:
    with fails("invalid-template", "task.template=alpaca | human-assistant"):
        bound(task_of("own"), tokenizer(), 64).encode(rows_of(tmp_path, [{"messages": TALK}]))


def test_a_template_s_own_marks_are_taken(tmp_path: Path) -> None:
    """{% generation %} marks the loss mask, also in a template that renders earlier turns differently."""
    marked = (
        "{%- for message in messages %}{% if message.role == 'user' %}{{ message.content + '|' }}{% else %}"
        "{% generation %}{{ message.content if loop.last else '...' }}{{ eos_token }}{% endgeneration %}"
        "{% endif %}{% endfor %}"
    )
    encoded = bound(task_of(marked), tokenizer(), 64).encode(rows_of(tmp_path, [{"messages": [*TALK, *TALK]}]))
    ids, mask = encoded.row(0), encoded.loss_mask
    assert tokenizer().decode(ids) == "Say ab.|...</s>Say ab.|ab</s>"
    assert tokenizer().decode(ids[mask]) == "...</s>ab</s>"


def test_a_template_that_closes_the_whole_is_cut_at_the_turn_s_end(tmp_path: Path) -> None:
    """As in Phi-3: one token ends a turn, another the conversation."""
    template = (
        "{% for message in messages %}{{ message.content + '<|end|>\n' }}{% endfor %}"
        "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    )
    words = bytes_tokenizer(["</s>", "<|end|>"], eos_token="</s>")
    task = task_of(template)
    encoder = bound(task, words)
    encoded = encoder.encode(rows_of(tmp_path, [{"messages": [*TALK, *TALK]}]))
    assert words.decode(encoded.row(0)) == "Say ab.<|end|>\nab<|end|>\nSay ab.<|end|>\nab<|end|>\n</s>"
    assert words.decode(encoded.row(0)[encoded.loss_mask]) == "ab<|end|>ab<|end|>"
    assert encoder.special_ids.end == words.convert_tokens_to_ids("<|end|>")


def test_a_template_file_is_written_into_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text(LINES)
    recipe = tmp_path / "talk.yaml"
    recipe.write_text(
        "task: {name: instruction, template: chat.jinja}\nmodel: {name_or_path: base}\ndata: {path: talks}\n"
    )
    assert load_recipe(str(recipe)).recipe.task.template == LINES
    (tmp_path / "chat.jinja").unlink()
    with fails("invalid-recipe", "line 1: task.template"):
        load_recipe(str(recipe))


def test_prompts_and_answers_are_made_from_rows(tmp_path: Path) -> None:
    """As the template writes them, with and without {% generation %} marks."""
    turn = "{{ message.content + eos_token }}"
    marked = LINES.replace(turn, f"{{% generation %}}{turn}{{% endgeneration %}}")
    for template in (LINES, marked):
        task = replace(task_of(template), metric="exact_match")
        encoder = bound(task, tokenizer())
        encoded = encoder.encode(rows_of(tmp_path, [{"messages": [*TALK, USER, ASSISTANT]}]))
        (answer,) = encoder.answer(encoded, Runner(), final=True)
        assert (answer.prompt, answer.label, answer.prediction) == ("Say ab.|ab</s>Say ab.|", "ab", "ab")
        assert encoder.chat_ids([*TALK, USER]) == tokenizer()(answer.prompt, add_special_tokens=False)["input_ids"]


class Runner:
    """Answers "ab"."""

    context = 64

    def forward(self, predict: object) -> list[Prediction]:
        return [Prediction(None, None, loss=1.0, tokens=1)]

    def generate(self, prompts: object, special_ids: object, max_new_tokens: int) -> list[Generated]:
        return [Generated("ab", finished=True)]
