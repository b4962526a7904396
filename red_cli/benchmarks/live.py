"""A run's language model, ready to answer, and texts that it writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from red_cli.errors import Interrupted, UserError, did_you_mean, shown
from red_cli.inference.generate import Decoder, ResumableOutput
from red_cli.inference.runtime import Runtime, load_runtime
from red_cli.recipe.overrides import named_with_role
from red_cli.recipe.roles import Role
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Decoding
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.recipe.tasks.instruction import NAMED_TEMPLATES, OWN, read_template
from red_cli.runs.events import Listener
from red_cli.runs.load import open_task
from red_cli.runs.opened import Opened
from red_cli.tasks.base import Base, Generated
from red_cli.tasks.chat.chat_template import ChatTemplate
from red_cli.tasks.chat.conversations import Conversation
from red_cli.tasks.special_ids import find_special_ids


def open_language_model(target: Opened) -> Base:
    """Its base, without weights.

    Raises:
        UserError: it is none that writes texts, or cannot be had.
    """
    _, base = open_task(target)
    if base.kind.trains_head:
        raise UserError("unsupported-model", f"suites are for language models; {target.folder} is a {base.kind.name}")
    return base


def load_live(opened: Opened, base: Base, listener: Listener) -> Runtime:
    """Load the model."""
    listener.status("loading the model")
    return load_runtime(opened, base, listener)


def model_name(target: Opened) -> str:
    """What answers are signed with: the folder's name, of an adapter inside a run the run's."""
    folder = target.folder.resolve()
    return folder.parent.name if folder.name == "adapter" else folder.name


def suite_decoding(standard: Decoding, recipe: Recipe, overrides: Sequence[str]) -> Decoding:
    """How a suite generates: as its owners do, but for the keys of eval.generation that are given by `overrides`."""
    keys = [named.key for named in named_with_role(overrides, {Role.DECODING})]
    given = recipe.eval.generation
    if given is None or not keys:
        return standard
    if "eval.generation" in keys:
        return given
    names = [key.split(".")[2] for key in keys]
    return standard.model_copy(update={name: getattr(given, name) for name in names})


def write_answers(
    runtime: Runtime, prompts: Sequence[Sequence[int]], options: Decoding, end: int, resumable: ResumableOutput
) -> list[Generated]:
    """What the model answers to each prompt; `end` is the token that ends an answer, `resumable` keeps answers.

    A prompt that leaves no room for its answer loses its beginning, and that is told.

    Raises:
        UserError: options.max_new_tokens leave no room for any prompt.
        Interrupted: the user stopped it; the same call goes on.
    """  # fmt: skip
    wanted = options.max_new_tokens
    assert wanted is not None
    context = runtime.context
    room = context if runtime.base.kind.encoder_decoder else context - wanted
    if room < 1:
        raise UserError(
            "too-long",
            f"answers of {wanted} tokens are asked for, but the base takes {context}, prompt included",
            hint=f"Ask for fewer: eval.generation.max_new_tokens={max(1, context // 2)}",
        )
    if cut := sum(len(prompt) > room for prompt in prompts):
        runtime.listener.note(f"{cut:,} of {len(prompts):,} prompts lost their beginning: longer than {room:,} tokens.")
    base = runtime.base
    ends = replace(find_special_ids(base.tokenizer, base.config, base.kind, None), end=end)
    with runtime.autocast():
        try:
            return Decoder(runtime, options, resumable).generate([prompt[-room:] for prompt in prompts], ends, wanted)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted", f"stopped while answering; the answers that are there lie in {resumable.path}"
            ) from None


def read_questions(path: Path, needed: Sequence[str]) -> list[dict[str, object]]:
    """Questions from JSON (a list of objects) or JSONL, each with the keys `needed`.

    Raises:
        UserError: the file is missing, damaged or empty, or a question lacks a key (its number is told).
    """
    if not path.is_file():
        raise UserError("file-not-found", f"--questions: no such file: {path}")
    text = path.read_text(encoding="utf-8", errors="replace")
    listed = text.lstrip().startswith("[")
    parts = [text] if listed else [line for line in text.splitlines() if line.strip()]
    found: list[object] = []
    for number, part in enumerate(parts, start=1):
        try:
            found += json.loads(part) if listed else [json.loads(part)]
        except json.JSONDecodeError as error:
            raise UserError(
                "invalid-json", f"{path}, line {error.lineno if listed else number}: not valid JSON: {error.msg}"
            ) from None
    if not found:
        raise UserError("no-rows", f"{path} has no questions")
    questions = []
    for number, question in enumerate(found, start=1):
        if not isinstance(question, dict) or (lacking := [key for key in needed if key not in question]):
            what = f"no {shown(lacking[0])}" if isinstance(question, dict) else "not an object"
            raise UserError(
                "invalid-row", f"{path}, question {number}: {what}", hint=f"Expected keys: {', '.join(needed)}"
            )
        questions.append(question)
    return questions


def require_absent(path: Path) -> None:
    """Refuse to answer anew into a file of answers.

    Raises:
        UserError: it exists.
    """
    if path.exists():
        raise UserError("output-exists", f"{path} exists", hint="Delete it, or write elsewhere: --output FOLDER")


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
            "invalid-template",
            f"{tokenizer.name_or_path} has no chat template of its own",
            hint=f"Choose another: --template {' or '.join(NAMED_TEMPLATES)}",
        )
    try:
        choice = TemplateChoice(read_template(chosen), {})
    except ValueError:
        known = [OWN, *NAMED_TEMPLATES]
        raise UserError(
            "unknown-name",
            f"no chat template {shown(chosen)}",
            hint=did_you_mean(chosen, known) + f"There are {', '.join(known)}, and Jinja files.",
        ) from None
    return chosen, ChatTemplate.of(choice, tokenizer)


def prompt_ids(template: ChatTemplate, conversation: Conversation) -> list[int]:
    """Token ids of a conversation that ends with the user, up to where the answer begins."""
    text = template.prompts([conversation], ["a question"])[0]
    return list(template.tokenizer(text, add_special_tokens=False)["input_ids"])
