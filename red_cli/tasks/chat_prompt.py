"""Conversations as the prompts that a model is to answer."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import jinja2
from transformers import PreTrainedTokenizerBase

from red_cli.errors import UserError
from red_cli.tasks.tokens import find_frame

Conversation = Sequence[dict[str, str]]  # messages with role (user, assistant) and content
OWN = "own"
# The paper's published code: "Human: {prompt}\n\nAssistant: ". It has no second turn; here an empty line precedes it.
_HUMAN_ASSISTANT = (
    "{% for message in messages %}"
    "{{ '\\n\\n' if not loop.first and message.role == 'user' else '' }}"
    "{{ 'Human: ' + message.content + '\\n\\nAssistant: ' if message.role == 'user' else message.content }}"
    "{% endfor %}"
)
_PROBE = "answer"
CHAT_TEMPLATES = {"human-assistant": _HUMAN_ASSISTANT}


def choose_template(named: str | None, trained_with: str | None, tokenizer: PreTrainedTokenizerBase) -> str:
    """The template to ask with: the one that is named, else that of the training, else the tokenizer's own, else the
    paper's human-assistant.

    Raises:
        UserError: there is no such template, or the tokenizer has none of its own.
    """
    chosen = named or trained_with or (OWN if tokenizer.chat_template else "human-assistant")
    if chosen == OWN and not tokenizer.chat_template:
        raise UserError(
            f"{tokenizer.name_or_path} has no chat template of its own",
            hint=f"Choose one: --template {' or '.join(CHAT_TEMPLATES)}",
        )
    if chosen not in (OWN, *CHAT_TEMPLATES) and not _is_jinja(chosen):
        near = difflib.get_close_matches(chosen, [OWN, *CHAT_TEMPLATES], n=1)
        raise UserError(
            f"no chat template {chosen!r}",
            hint=f"{f'Did you mean {near[0]}? ' if near else ''}There are: {', '.join([OWN, *CHAT_TEMPLATES])}",
        )
    return chosen


def chat_prompt(conversation: Conversation, tokenizer: PreTrainedTokenizerBase, template: str) -> list[int]:
    """Token ids of a conversation that ends with the user, up to where the answer begins.

    Args:
        template: "own", the name of another, or the text of one.

    Raises:
        UserError: the template fails.
    """
    text = None if template == OWN else CHAT_TEMPLATES.get(template, template)
    try:
        prompt = tokenizer.apply_chat_template(
            list(conversation), chat_template=text, tokenize=False, add_generation_prompt=True
        )
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        raise UserError(f"the chat template fails{f' in line {line}' if line else ''}: {error}") from None
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return [*(find_frame(tokenizer).before if template in CHAT_TEMPLATES else ()), *ids]


def end_of_answer(tokenizer: PreTrainedTokenizerBase, template: str) -> int | None:
    """The id of the special token that the template puts after an answer; None where it puts none."""
    text = None if template == OWN else CHAT_TEMPLATES.get(template, template)
    asked = {"role": "user", "content": "a"}
    written: str = tokenizer.apply_chat_template(
        [asked, {"role": "assistant", "content": _PROBE}], chat_template=text, tokenize=False
    )
    after = tokenizer(written.rpartition(_PROBE)[2], add_special_tokens=False)["input_ids"]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return next((token for token in after if token in special), None)


def _is_jinja(template: str) -> bool:
    return "{{" in template or "{%" in template
