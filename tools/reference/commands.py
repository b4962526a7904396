"""The page of commands: what each does, its arguments and options, and examples."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from red_cli.cli import app
from red_cli.commands.examples import EXAMPLES
from red_cli.recipe.methods import compared_methods
from reference.markdown import block, code, codes, page, sentence, table, text

_PLACEHOLDERS: dict[type, str] = {int: "N", float: "N", Path: "PATH", str: "TEXT"}
_INTRODUCTION = """\
`red COMMAND --help` shows the same in a terminal. Options follow the command. Every command that takes `KEY=VALUE`
takes any [recipe key](keys.md). Exit code 0 means success, 1 that the work failed, 2 that the input is wrong, and
130 that you stopped the command; [message codes](message_codes.md) has the details.
"""


@dataclass(frozen=True)
class Parameter:
    """An argument or an option of a command.

    Attributes:
        written: how it is typed: a metavar, or the option's names with a placeholder of its value.
    """

    written: str
    meaning: str
    default: str
    is_option: bool
    required: bool


def make() -> str:
    """The text of the page."""
    named = sorted(commands().items(), key=lambda item: list(EXAMPLES).index(item[0].split()[0]))
    assert app.registered_callback is not None
    own = parameters(app.registered_callback.callback)
    overview = [(f"[{code(f'red {name}')}](#red-{name.replace(' ', '-')})", _summary(each)) for name, each in named]
    return page(
        "Commands",
        _INTRODUCTION,
        table(("command", "what it does"), overview),
        *(part for name, each in named for part in _command(name, each)),
        "## Options of red itself",
        table(
            ("option", "meaning"),
            [
                *((each.written, each.meaning) for each in own),
                (codes(("--help", "-h")), "Show the commands, or after a command its help."),
                (code("--install-completion"), "Install completion for the current shell."),
                (code("--show-completion"), "Show the completion script for the current shell."),
            ],
        ),
    )


def commands() -> dict[str, Any]:
    """Name of each command, such as `recipes show` -> how typer registered it."""
    groups = [("", app), *((f"{group.name} ", group.typer_instance) for group in app.registered_groups)]
    return {
        f"{prefix}{each.name or each.callback.__name__}": each
        for prefix, group in groups
        for each in group.registered_commands
    }


def parameters(callback: Callable[..., Any] | None) -> list[Parameter]:
    """The arguments and options of a command, in the order of its help; hidden ones are left out."""
    assert callback is not None
    hints = get_type_hints(inspect.unwrap(callback), include_extras=True)
    found = [
        _parameter(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(callback).parameters.items()
    ]
    return [each for each in found if each is not None]


def _parameter(name: str, hint: Any, default: Any) -> Parameter | None:
    """One parameter of a command's function; None if it is hidden."""
    kind, info = get_args(hint)
    if info.hidden:
        return None
    required = default is inspect.Parameter.empty
    inner = next((part for part in get_args(kind) if part is not type(None)), kind) if _is_union(kind) else kind
    several = get_origin(inner) is list
    value = get_args(inner)[0] if several else inner
    choices = [member.value for member in value] if isinstance(value, type) and issubclass(value, Enum) else []
    meaning = sentence((info.help or "").replace("{methods}", ", ".join(("none", *compared_methods()))))
    if choices:
        meaning = f"{meaning} One of {codes(choices)}."
    if isinstance(info, ArgumentInfo):
        return Parameter(code(info.metavar or name.upper()), meaning, _default(default), False, required)
    if several and "repeated" not in meaning and "several times" not in meaning:
        meaning = f"{meaning} May be given several times."
    placeholder = info.metavar or ("NAME" if choices else _PLACEHOLDERS.get(value, "TEXT"))
    return Parameter(_written(name, info, value, placeholder, default), meaning, _default(default), True, required)


def _written(name: str, info: OptionInfo, value: Any, placeholder: str, default: Any) -> str:
    """An option as it is typed. Typer takes the first of the names in an annotation for a default."""
    given = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    flags = [each for each in given if each.startswith("-")] or [f"--{name.replace('_', '-')}"]
    if value is not bool:
        return codes([f"{flags[0]} {placeholder}", *flags[1:]])
    return codes([*flags, *([f"--no-{flags[0].removeprefix('--')}"] if default is True else [])])


def _is_union(kind: Any) -> bool:
    """Whether a type is a union, in either spelling."""
    return get_origin(kind) in (Union, types.UnionType)


def _default(value: Any) -> str:
    """The default of a parameter as it is typed; empty where there is none to show."""
    value = value.value if isinstance(value, Enum) else value
    return "" if value in (None, False, True, inspect.Parameter.empty) else code(str(value))


def _summary(command: Any) -> str:
    """What a command does, in the first sentence of its help."""
    return text(_paragraphs(command)[0])


def _paragraphs(command: Any) -> list[str]:
    """The paragraphs of a command's help."""
    return inspect.cleandoc(command.help or command.callback.__doc__ or "").split("\n\n")


def _command(name: str, command: Any) -> Iterable[str]:
    """The heading and the blocks of a command."""
    every = parameters(command.callback)
    arguments = [each for each in every if not each.is_option]
    options = [each for each in every if each.is_option]
    yield f"## red {name}"
    yield from (text(part) for part in _paragraphs(command))
    yield block([_usage(name, command.callback, bool(options))], "text")
    yield _table("argument", arguments)
    yield _table("option", options)
    yield from _examples(name)


def _usage(name: str, callback: Callable[..., Any], has_options: bool) -> str:
    """The line that shows how a command is typed."""
    hints = get_type_hints(inspect.unwrap(callback), include_extras=True)
    infos = [(key, get_args(hints[key])[1]) for key in inspect.signature(callback).parameters]
    written = [info.metavar or key.upper() for key, info in infos if isinstance(info, ArgumentInfo)]
    return " ".join(("red", name, *written, *(["[OPTIONS]"] if has_options else [])))


def _table(heading: str, rows: list[Parameter]) -> str:
    """The table of arguments or of options; empty if there are none."""
    if not rows:
        return ""
    cells = [
        (row.written, "*required*" if row.required and row.is_option else row.default, row.meaning) for row in rows
    ]
    return table((heading, "default", "meaning"), cells)


def _examples(name: str) -> Iterable[str]:
    """The examples of a command; those of a group stand with the command that they call."""
    group, _, command = name.partition(" ")
    lines = [line for line in EXAMPLES.get(group, ()) if not command or _calls(line, group, command)]
    if lines:
        yield block(lines)


def _calls(line: str, group: str, command: str) -> bool:
    """Whether a line calls a command of a group; a line with the group alone calls `list`."""
    words = line.split()
    return words[2:3] == [command] if len(words) > len(("red", group)) else command == "list"
