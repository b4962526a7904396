"""Find the columns of a file that the model reads: by name, by the user's word, or as the only choice. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from red_cli.errors import UserError, did_you_mean, shown
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Columns
from red_cli.recipe.tasks.base import CompletionSettings, LabelSettings
from red_cli.recipe.tasks.commonsense import INPUT, CommonsenseSettings
from red_cli.tasks.chat.conversations import columns_of, form_of
from red_cli.tasks.data.rows import Rows, plain_column_name

_PROMPT = "prompt"  # the column of a conversation that is one message
_ANSWERS = ("label", "labels", "completion", "output", "answer", "target")  # not guessed as an input
_OPTIONS = ("messages", "prompt", "instruction", "input")  # columns of conversations that --column names


@dataclass(frozen=True)
class InputColumns:
    """The columns to encode.

    Attributes:
        read: the name that the task reads -> the column of the file.
        texts: the names whose values are texts; empty for conversations.
        columns: data.columns for the task, with which it finds the names of `read`.
        note: what was guessed, for the user.
    """

    read: Mapping[str, str]
    texts: Sequence[str]
    columns: Columns
    note: str | None = None


def only_column(recipe: Recipe, given: Sequence[str] = ()) -> str:
    """The name of the column of rows that have one text each.

    Raises:
        UserError: the model reads several columns.
    """
    if recipe.task.chat_template is not None:
        return _PROMPT
    wanted = _wanted(recipe)
    if len(wanted) > 1:
        names = ", ".join(choices[0] for choices in wanted.values())
        raise UserError(
            "invalid-option",
            f"the model reads several columns ({names}), and each line has but one text",
            hint="Give a file with these columns.",
        )
    return next(iter(_named(given).values()), next(iter(wanted.values()))[0])


def known_names(recipe: Recipe, given: Sequence[str]) -> list[str]:
    """The names of columns by which a table is recognised: those that the model reads, and those that are `given`."""
    own = [name for choices in _wanted(recipe).values() for name in choices]
    return [*own, *_named(given).values(), *(_OPTIONS if recipe.task.chat_template is not None else ())]


def find_columns(recipe: Recipe, there: Sequence[str], given: Sequence[str], source: str) -> InputColumns:
    """Find the columns to encode in a file.

    Args:
        there: the columns of the file.
        given: what the user says of them: "text=body" reads the column body as text.
        source: the file, for messages.

    Raises:
        UserError: a column is missing, or `given` names one that the model does not read or the file does not have.
    """
    named = _named(given)
    for column in named.values():
        if column not in there:
            raise _missing(source, column, there, f"{did_you_mean(column, there)}")
    if recipe.task.chat_template is not None:
        return _of_conversations(recipe, there, named, source)
    wanted = _wanted(recipe)
    known = {key: role for role, choices in wanted.items() for key in (role, *choices)}
    if unknown := [key for key in named if key not in known]:
        raise UserError(
            "invalid-option",
            f"--column {unknown[0]}={named[unknown[0]]}: the model reads no {shown(unknown[0])}",
            hint=f"It reads: {', '.join(dict.fromkeys(known))}",
        )
    by_role = {known[key]: column for key, column in named.items()}
    read: dict[str, str] = {}
    guessed: list[str] = []
    for role, choices in wanted.items():
        found = by_role.get(role) or next((name for name in choices if name in there), None)
        if found is None:
            found = _guess(recipe, choices, there, [*read.values(), *by_role.values()], len(wanted))
            if found is None:
                raise _missing(source, choices[0], there, f"Say which one holds it: --column {choices[0]}=NAME. ")
            guessed.append(f"column {shown(found)} is read as {shown(choices[0])}")
        read[choices[0]] = found
    _require_single(source, there, list(read.values()))
    texts = list(read)
    if isinstance(recipe.task, CommonsenseSettings) and INPUT in there:
        read[INPUT] = INPUT
    return InputColumns(read, texts, recipe.data.columns, "; ".join(guessed) or None)


def _wanted(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The role of each column that the task reads -> its names, of which one is enough."""
    task, columns = recipe.task, recipe.data.columns
    names = task.input_columns(columns)
    roles: tuple[str, ...] = ()
    if isinstance(task, LabelSettings) and not (task.text_to_text and task.prompt_template):
        roles = ("text", "text_pair")
    elif isinstance(task, CommonsenseSettings):
        roles = (_PROMPT,)
    elif isinstance(task, CompletionSettings):
        roles = () if task.template(_PROMPT) is not None else (_PROMPT,)
    return dict(zip([*roles[: len(names)], *(each[0] for each in names[len(roles) :])], names, strict=True))


def _named(given: Sequence[str]) -> dict[str, str]:
    """The columns that the user names: what the model reads -> the file's column."""
    found = {}
    for text in given:
        key, equals, column = text.partition("=")
        if not (key and equals and column):
            raise UserError(
                "invalid-option", f"--column {text}: expected NAME=COLUMN", hint="For example: --column text=body"
            )
        found[key] = column
    return found


def _guess(
    recipe: Recipe, choices: Sequence[str], there: Sequence[str], taken: Sequence[str], wanted: int
) -> str | None:
    """The column that can only be meant: another spelling of the name, or the only one that is no answer."""
    alike = [name for name in there if plain_column_name(name) in map(plain_column_name, choices) and name not in taken]
    if len(alike) == 1:
        return alike[0]
    own = [name for choice in recipe.task.answer_columns(recipe.data.columns) for name in choice]
    answers = {plain_column_name(name) for name in (*own, *_ANSWERS)}
    others = [name for name in there if plain_column_name(name) not in answers]
    return others[0] if wanted == len(others) == 1 else None


def _of_conversations(recipe: Recipe, there: Sequence[str], named: Mapping[str, str], source: str) -> InputColumns:
    """Find the columns of conversations that the model reads: by the user's word, by name, or a prompt alone."""
    if unknown := [key for key in named if key not in _OPTIONS]:
        raise UserError(
            "invalid-option",
            f"--column {unknown[0]}={named[unknown[0]]}: the model reads no {shown(unknown[0])}",
            hint=f"It reads one of: {', '.join(_OPTIONS)}",
        )
    own = recipe.data.columns.model_copy(update={"completion": None, "output": None})
    note = None
    if named:
        columns = Columns(**named)
    else:
        rows = Rows(pa.table({name: pa.array([], pa.null()) for name in there}), source)
        columns = own
        for candidate in (own, Columns()):
            try:
                columns_of(rows, candidate)
            except UserError:
                continue
            columns = candidate
            break
        else:
            found = _guess(recipe, (_PROMPT, "text", "question"), there, (), 1)
            if found is None:
                raise _missing(
                    source, "messages, prompt or instruction", there, "Say which one holds it: --column prompt=NAME. "
                )
            columns, note = Columns(prompt=found), f"column {shown(found)} is read as the prompt"
    rows = Rows(pa.table({name: pa.array([], pa.null()) for name in there}), source)
    unread = {"completion": columns.completion or "completion", "output": columns.output or "output"}
    form = form_of(rows, columns)
    used = [name for name in columns_of(rows, columns) if name != unread.get(form)]
    _require_single(source, there, used)
    chosen = {
        "messages": Columns(messages=columns.messages),
        "completion": Columns(prompt=columns.prompt or _PROMPT),
        "output": Columns(instruction=columns.instruction or "instruction", input=columns.input),
    }[form]
    return InputColumns(dict(zip(used, used, strict=True)), (), chosen, note)


def _require_single(source: str, there: Sequence[str], used: Sequence[str]) -> None:
    """Check that no two columns of the input file have the name of one that the model reads."""
    for name in used:
        if list(there).count(name) > 1:
            raise UserError("file-damaged", f"{source} has two columns named {shown(name)}", hint="Rename one of them.")


def _missing(source: str, name: str, there: Sequence[str], hint: str) -> UserError:
    """The error for an input column that the model reads and the file does not have; it lists those there are."""
    return UserError("column-not-found", f"{source} has no column {name}", hint=f"{hint}It has: {', '.join(there)}")
