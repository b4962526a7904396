"""The eight commonsense tasks and how the LLM-Adapters protocol asks, answers and reads (arXiv 2304.01933).

Facts of LLM-Adapters' commonsense_evaluate.py and dataset/. Its training prompt
differs from this by a comment that slipped into the text and by spaces; here both are the one of the evaluation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from red_cli.recipe.tasks.commonsense import CommonsenseSubset


@dataclass(frozen=True)
class CommonsenseSpec:
    """One task.

    Attributes:
        title: as tables of the field head its column.
        answers: what a text is searched for; the first in it counts.
    """

    title: str
    answers: tuple[str, ...]


_ANSWERS = ("answer1", "answer2", "answer3", "answer4", "answer5")  # in all tasks that number their answers so

# In the order of the field's tables
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
    """The answers that an instruction offers, as its last line names them; None if it does not."""
    found = _FORMAT.search(instruction)
    options = found[1].split("/") if found else []
    return options if len(set(options)) == len(options) > 1 and all(options) else None


def read_answer(text: str, options: list[str]) -> str | None:
    """The answer that a generated text gives to a question with `options`, None where it gives none.

    The first word that any question of this form has for an answer counts, offered here or not, inside of longer words
    too; capitals are not the same. The text ends where the model begins another response.
    """
    if not options:
        return None
    written = text.split(_RESPONSE)[0]
    searched = next((facts.answers for facts in COMMONSENSE.values() if options[0] in facts.answers), tuple(options))
    found = re.search("|".join(map(re.escape, searched)), written)
    return found[0] if found else None


def subset_named(name: str) -> CommonsenseSubset | None:
    """The task that a folder is named for: ARC-Easy, arc_easy, social_i_qa, ...; None if for none."""
    plain = _plain(name)
    return next((subset for subset in COMMONSENSE if _plain(subset) == _ALIASES.get(plain, plain)), None)


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())
