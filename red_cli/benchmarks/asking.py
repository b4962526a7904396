"""How a benchmark's questions are put to a model: by which chat template."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from red_cli.errors import UserError, did_you_mean, shown
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.recipe.tasks.instruction import NAMED_TEMPLATES, OWN, read_template
from red_cli.tasks.chat.chat_template import ChatTemplate
from red_cli.tasks.chat.conversations import Conversation

_PAPERS = "human-assistant"


def choose_template(named: str | None, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ChatTemplate]:
    """The template to ask with, and its name: the one that is named, else that of the training, else the model's own,
    else the paper's human-assistant.

    Raises:
        UserError: there is no such template, it fails, or the model has none of its own.
    """
    trained_with = recipe.task.chat_template
    if named is None and trained_with is not None:
        return trained_with.template, ChatTemplate.of(trained_with, tokenizer)
    chosen = named or (OWN if tokenizer.chat_template else _PAPERS)
    if chosen == OWN and not tokenizer.chat_template:
        raise UserError(
            f"{tokenizer.name_or_path} has no chat template of its own",
            hint=f"Choose another: --template {' or '.join(NAMED_TEMPLATES)}",
        )
    try:
        choice = TemplateChoice(read_template(chosen), {})
    except ValueError:
        known = [OWN, *NAMED_TEMPLATES]
        raise UserError(
            f"no chat template {shown(chosen)}",
            hint=did_you_mean(chosen, known) + f"There are {', '.join(known)}, and Jinja files.",
        ) from None
    return chosen, ChatTemplate.of(choice, tokenizer)


def prompt_ids(template: ChatTemplate, conversation: Conversation) -> list[int]:
    """Token ids of a conversation that ends with the user, up to where the answer begins."""
    text = template.prompts([conversation], ["a question"])[0]
    return list(template.tokenizer(text, add_special_tokens=False)["input_ids"])
