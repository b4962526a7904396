"""The eight commonsense tasks, and the prompts and answer parsing of the LLM-Adapters protocol (arXiv 2304.01933).

Sources: LLM-Adapters' commonsense_evaluate.py and dataset/. Its training prompt differs from its evaluation prompt by
a stray comment and by spaces; here training and evaluation use the evaluation prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from red_cli.recipe.tasks.commonsense import CommonsenseSubset

GENERATED, LIKELIEST = "accuracy", "likelihood_accuracy"


@dataclass(frozen=True)
class CommonsenseSpec:
    """One of the tasks.

    Attributes:
        title: the column heading in published tables.
        answers: the answers to search for in a text; the first found counts.
    """

    title: str
    answers: tuple[str, ...]


_ANSWERS = ("answer1", "answer2", "answer3", "answer4", "answer5")  # of several tasks

# In the order of published tables
COMMONSENSE: dict[CommonsenseSubset, CommonsenseSpec] = {
    "boolq": CommonsenseSpec("BoolQ", ("true", "false")),
    "piqa": CommonsenseSpec("PIQA", ("solution1", "solution2")),
    "social_i_qa": CommonsenseSpec("SIQA", _ANSWERS),
    "hellaswag": CommonsenseSpec("HellaS.", ("ending1", "ending2", "ending3", "ending4")),
    "winogrande": CommonsenseSpec("WinoG.", ("option1", "option2")),
    "arc_easy": CommonsenseSpec("ARC-e", _ANSWERS),
    "arc_challenge": CommonsenseSpec("ARC-c", _ANSWERS),
    "openbookqa": CommonsenseSpec("OBQA", _ANSWERS),
}
JOINT_FILE = "commonsense_170k.json"
ANSWER_PREFIX = "the correct answer is "
MAX_NEW_TOKENS = 32

# Leading and trailing spaces are the protocol's.
_INDENT = " " * 16
_RESPONSE = "### Response:"
PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request. \n\n"
    f"{_INDENT}### Instruction:\n{_INDENT}{{instruction}}\n\n{_INDENT}{_RESPONSE}\n{_INDENT}"
)
PROMPT_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    f"{_INDENT}### Instruction:\n{_INDENT}{{instruction}}\n\n{_INDENT}### Input:\n{_INDENT}{{input}}\n\n"
    f"{_INDENT}{_RESPONSE}\n{_INDENT}"
)
_ALIASES = {"siqa": "socialiqa", "obqa": "openbookqa", "arce": "arceasy", "arcc": "arcchallenge"}
_FORMAT = re.compile(r"Answer format:\s*(\S+)\s*$")


def options_of(instruction: str) -> list[str] | None:
    """The answers that the last line of an instruction offers; None if it offers no answers."""
    found = _FORMAT.search(instruction)
    options = found[1].split("/") if found else []
    return options if len(set(options)) == len(options) > 1 and all(options) else None


def read_answer(text: str, options: list[str]) -> str | None:
    """The answer that a generated text gives to a question with `options`; None if it gives no answer.

    The first occurrence of any answer of the task counts, also if this question does not offer it, and also inside a
    longer word; case counts. Text after another "### Response:" is ignored.
    """
    if not options:
        return None
    written = text.split(_RESPONSE)[0]
    searched = next((facts.answers for facts in COMMONSENSE.values() if options[0] in facts.answers), tuple(options))
    found = re.search("|".join(map(re.escape, searched)), written)
    return found[0] if found else None


def subset_named(name: str) -> CommonsenseSubset | None:
    """The task of the protocol's eight that a name means, such as arc_easy or social_i_qa, if any."""
    plain = _plain(name)
    return next((subset for subset in COMMONSENSE if _plain(subset) == _ALIASES.get(plain, plain)), None)


def _plain(name: str) -> str:
    """The name of a commonsense task in lower case, without hyphens, underscores and spaces."""
    return re.sub(r"[-_ ]", "", name.lower())
