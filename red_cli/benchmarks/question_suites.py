"""The common part of AlpacaEval and MT-Bench: the model, questions, chat template and answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from red_cli.distributed.process_group import Processes
from red_cli.errors import Interrupted, UserError, did_you_mean, shown
from red_cli.inference.generate import Decoder, ResumableOutput
from red_cli.inference.runtime import Runtime, load_runtime
from red_cli.recipe.keys_by_role import overrides_with_role
from red_cli.recipe.roles import Role
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Decoding
from red_cli.recipe.tasks.base import TemplateChoice
from red_cli.recipe.template import NAMED_TEMPLATES, OWN, read_template
from red_cli.runs.events import Listener
from red_cli.runs.load_opened import load_task
from red_cli.runs.open_trained import Opened
from red_cli.tasks.base import Base, Generated
from red_cli.tasks.chat.chat_template import ChatTemplate
from red_cli.tasks.chat.conversations import Conversation
from red_cli.tasks.chat.messages import Message
from red_cli.tasks.special_ids import find_special_ids


def open_language_model(target: Opened) -> Base:
    """The base of a language model that answers a question suite, without weights.

    Raises:
        UserError: the model does not generate text, or its base is not available.
    """
    _, base = load_task(target)
    if base.kind.trains_head:
        raise UserError("unsupported-model", f"suites are for language models; {target.folder} is a {base.kind.name}")
    return base


def load_live(opened: Opened, base: Base, listener: Listener, processes: Processes) -> Runtime:
    """Load the model that answers a question suite."""
    listener.status("loading the model")
    return load_runtime(opened, base, listener, processes)


def model_name(target: Opened) -> str:
    """The model's name in files of answers: its folder's, or the run's for an adapter inside a run."""
    folder = target.folder.resolve()
    return folder.parent.name if folder.name == "adapter" else folder.name


def suite_decoding(standard: Decoding, recipe: Recipe, overrides: Sequence[str]) -> Decoding:
    """The suite's `standard` decoding options, except the keys of eval.generation in `overrides`."""
    keys = [named.key for named in overrides_with_role(overrides, {Role.DECODING})]
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
    """Answer the questions of a suite; `end` is the end token, `resumable` stores answers.

    A prompt that leaves no room for its answer loses its beginning; a note reports this.

    Raises:
        UserError: options.max_new_tokens leaves no room for any prompt.
        Interrupted: the user stopped it; the same call resumes.
    """  # fmt: skip
    wanted = options.max_new_tokens
    assert wanted is not None
    context = runtime.context
    room = context if runtime.base.kind.encoder_decoder else context - wanted
    if room < 1:
        raise UserError(
            "too-long",
            f"answers may have {wanted} tokens, but the base takes {context}, prompt included",
            hint=f"Lower it: eval.generation.max_new_tokens={max(1, context // 2)}",
        )
    if cut := sum(len(prompt) > room for prompt in prompts):
        runtime.listener.note(f"{cut:,} of {len(prompts):,} prompts lost their beginning: longer than {room:,} tokens.")
    base = runtime.base
    ends = replace(find_special_ids(base.tokenizer, base.config, base.kind, None), end=end)
    with runtime.predicting():
        try:
            return Decoder(runtime, options, resumable).generate([prompt[-room:] for prompt in prompts], ends, wanted)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted", f"stopped while answering; {resumable.path} keeps the finished answers"
            ) from None


def read_questions(path: Path, needed: Sequence[str]) -> list[dict[str, object]]:
    """Read questions from JSON (a list of objects) or JSONL, each with the keys `needed`.

    Raises:
        UserError: the file is missing, damaged or empty, or a key of a question is missing.
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
        if not isinstance(question, dict) or (missing := [key for key in needed if key not in question]):
            what = f"no {shown(missing[0])}" if isinstance(question, dict) else "not an object"
            raise UserError(
                "invalid-row", f"{path}, question {number}: {what}", hint=f"Expected keys: {', '.join(needed)}"
            )
        questions.append(question)
    return questions


def require_absent(path: Path) -> None:
    """Check that a benchmark's file of answers does not exist.

    Raises:
        UserError: it exists.
    """
    if path.exists():
        raise UserError("output-exists", f"{path} exists", hint="Delete it, or write elsewhere: --output FOLDER")


_PAPER_TEMPLATE = "human-assistant"


def suite_template(named: str | None, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ChatTemplate]:
    """The template that a question suite writes its prompts with: `named`, else the training's, else the model's.

    Raises:
        UserError: there is no such template, it fails, or the model has no chat template.
    """
    trained_with = recipe.task.chat_template
    if named is None and trained_with is not None:
        return trained_with.template, ChatTemplate.of(trained_with, tokenizer)
    chosen = named or (OWN if tokenizer.chat_template else _PAPER_TEMPLATE)
    if chosen == OWN and not tokenizer.chat_template:
        raise UserError(
            "invalid-template",
            f"{tokenizer.name_or_path} has no chat template",
            hint=f"Choose one: --template {' or '.join(NAMED_TEMPLATES)}",
        )
    try:
        choice = TemplateChoice(read_template(chosen), {})
    except ValueError:
        known = [OWN, *NAMED_TEMPLATES]
        raise UserError(
            "unknown-name",
            f"no chat template {shown(chosen)}",
            hint=did_you_mean(chosen, known) + f"Known: {', '.join(known)}, and Jinja files.",
        ) from None
    return chosen, ChatTemplate.of(choice, tokenizer)


def prompt_ids(template: ChatTemplate, messages: Sequence[Message]) -> list[int]:
    """Token ids of the prompt of a suite's question: a conversation that ends with the user."""
    text = template.prompts([Conversation(messages)])[0]
    return list(template.tokenizer(text, add_special_tokens=False)["input_ids"])
