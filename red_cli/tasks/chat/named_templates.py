"""The chat templates that recipes call by name, as Jinja. What they write around a text is a fact of their sources."""

from __future__ import annotations

# Stanford Alpaca: github.com/tatsu-lab/stanford_alpaca, train.py. A system message takes the place of its opening
# sentences; later turns of a conversation, of which the source has none, follow without them.
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

# The RED paper's published code, llama.py: "Human: {prompt}\n\nAssistant: {answer}". The space before an answer is of
# the answer here: as a token of the prompt's it would be one that the running text, which is learnt, does not have.
_HUMAN_ASSISTANT = (
    "{%- for message in messages -%}"
    "{{ '\\n\\n' if loop.previtem is defined and message.role == 'user' else '' }}"
    "{%- if message.role == 'user' -%}{{ 'Human: ' + message.content + '\\n\\nAssistant:' }}"
    "{%- elif message.role == 'assistant' -%}{{ ' ' + message.content + eos_token }}"
    "{%- else -%}{{ message.content }}{%- endif -%}"
    "{%- endfor -%}"
)

TEMPLATES = {"alpaca": _ALPACA, "human-assistant": _HUMAN_ASSISTANT}
TAKES_INPUT = ("alpaca",)  # has a place of its own for an instruction's input
