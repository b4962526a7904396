"""The command keys: explain recipe keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from red_cli import console
from red_cli.commands.completion import complete_key
from red_cli.commands.options import Json
from red_cli.errors import UserError, did_you_mean, one_line

if TYPE_CHECKING:
    from red_cli.recipe.explain import KeyHelp

_MOST_EXPLAINED = 12  # keys that are shown in full; of more, a line each


def keys(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATTERN]",
            help="A key, a part of one, a pattern such as 'eval.*', or another toolkit's name such as lora_r.",
            autocompletion=complete_key,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Explain recipe keys: type, default, choices and meaning."""
    from red_cli.recipe.aliases import alias_of
    from red_cli.recipe.explain import key_helps, keys_to_explain

    found = keys_to_explain(pattern)
    alias = alias_of(pattern) if pattern and pattern not in key_helps() else None
    if not found:
        assert pattern is not None
        hint = alias.note if alias else f"{did_you_mean(pattern, _names(list(key_helps())), most=3)}All keys: red keys"
        raise UserError("unknown-key", f"no recipe key fits {one_line(pattern)}", hint=hint)
    if json:
        console.print_json({"keys": [key.to_json() for key in found]})
        return
    if alias and alias.note:
        console.print_text(alias.note)
    if len(found) > _MOST_EXPLAINED:
        console.print_lines((key.key, _in_a_line(key)) for key in found)
        console.next_commands("red keys KEY")
        return
    for number, key in enumerate(found):
        if number:
            console.print_text()
        console.print_heading(key.key)
        console.print_lines(_rows(key))


def _names(paths: list[str]) -> list[str]:
    """Key paths and their last parts, which misspelt patterns are compared with."""
    return [*paths, *(path.rpartition(".")[2] for path in paths)]


def _in_a_line(key: KeyHelp) -> str:
    """What `red keys` shows of a key on one line: its default and the first sentence of its meaning."""
    meaning = key.description.split(". ")[0].removesuffix(".")
    return meaning if key.default in (None, "null") else f"{meaning} ({key.default})"


def _rows(key: KeyHelp) -> list[tuple[str, str]]:
    """The rows that explain one key."""
    rows = [("meaning", key.description), ("type", key.type)]
    if key.choices and key.type != "true or false":
        rows.append(("choices", ", ".join(key.choices)))
    if key.type != "section":
        rows.append(("default", "none; it must be given" if key.default is None else key.default))
    if key.tasks:
        rows.append(("tasks", ", ".join(dict.fromkeys(key.tasks))))
    return rows
