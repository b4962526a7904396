"""The chat templates that `red` brings along, and the text of the template that a recipe chooses."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from red_cli.errors import UserError, shown
from red_cli.recipe.template import OWN, OWN_NAMED
from red_cli.tasks.special_ids import find_affixes

# Stanford Alpaca: github.com/tatsu-lab/stanford_alpaca, train.py. A system message takes the place of its opening
# sentences. Later turns, which the source does not have, follow without them.
_ALPACA = (
    "{%- set given = (messages | selectattr('role', 'equalto', 'user') | first).input -%}"
    "{%- if messages[0].role != 'system' -%}"
    "{{ 'Below is an instruction that describes a task'"
    " + (', paired with an input that provides further context' if given else '')"
    " + '. Write a response that appropriately completes the request.\\n\\n' }}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}"
    "{%- elif message.role == 'user' -%}"
    "{{ '\\n\\n' if loop.previtem is defined and loop.previtem.role == 'assistant' else '' }}"
    "{{ '### Instruction:\\n' + message.content + '\\n\\n' }}"
    "{{ '### Input:\\n' + message.input + '\\n\\n' if message.input else '' }}"
    "{{ '### Response:' }}"
    "{%- else -%}{{ message.content + eos_token }}{%- endif -%}"
    "{%- endfor -%}"
)

# The RED paper's published code, llama.py: "Human: {prompt}\n\nAssistant: {answer}". The space before an answer is part
# of the answer: at the end of the prompt it would be a token that the running text of the training does not have.
_HUMAN_ASSISTANT = (
    "{%- for message in messages -%}"
    "{{ '\\n\\n' if loop.previtem is defined and message.role == 'user' else '' }}"
    "{%- if message.role == 'user' -%}{{ 'Human: ' + message.content + '\\n\\nAssistant:' }}"
    "{%- elif message.role == 'assistant' -%}{{ ' ' + message.content + eos_token }}"
    "{%- else -%}{{ message.content }}{%- endif -%}"
    "{%- endfor -%}"
)

TEMPLATES = {"alpaca": _ALPACA, "human-assistant": _HUMAN_ASSISTANT}
TAKES_INPUT = ("alpaca",)  # templates with a separate place for an instruction's input


def template_text(template: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the chosen template, built-in or own; a built-in one begins with BOS if the tokenizer adds it.

    Args:
        template: own, own:NAME, the name of a built-in template, or a template's text.

    Raises:
        UserError: the tokenizer has no such template.
    """
    if template == OWN or template.startswith(OWN_NAMED):
        return _own(tokenizer, template.removeprefix(OWN).removeprefix(":"))
    if template not in TEMPLATES:
        return template
    begins = find_affixes(tokenizer).before == [tokenizer.bos_token_id]
    return ("{{ bos_token }}" if begins else "") + TEMPLATES[template]


def tool_template(template: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The built-in or own template for conversations with tools, if the tokenizer has another for them."""
    templates = tokenizer.chat_template
    return templates.get("tool_use") if template == OWN and isinstance(templates, dict) else None


def _own(tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """The text of the tokenizer's own chat template of a name, or of its default if the name is empty."""
    templates = tokenizer.chat_template
    if not templates:
        raise UserError(
            "invalid-template",
            f"{tokenizer.name_or_path} has no chat template",
            hint=f"Choose one: task.template={' | '.join(TEMPLATES)} | a Jinja file.",
        )
    if isinstance(templates, str):
        templates = {"default": templates}
    if (name or "default") in templates:
        return str(templates[name or "default"])
    what = f"no chat template {shown(name)}" if name else "several chat templates, and none is the default"
    raise UserError(
        "invalid-template",
        f"{tokenizer.name_or_path} has {what}; it has {', '.join(sorted(templates))}",
        hint=f"Choose one by its name: task.template={OWN_NAMED}{sorted(templates)[0]}",
    )
