"""Answer errors of usage, such as an unknown command or option, with what to type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from red_cli.commands.examples import EXAMPLES
from red_cli.errors import UserError, nearest, one_line
from red_cli.recipe.aliases import COMMANDS, OPTIONS, alias_of, plain_name

# Typer has its own copy of click in some versions, so the class is taken from what it exports
UsageError: type[Exception] = typer.BadParameter.__bases__[0]
_CHOICE = re.compile(r"'([^']*)' is not one of (.+)")  # in typer's message of a wrong choice
_AFTER = "Options follow the command, as in: red train RECIPE --resume"
_RANGE = re.compile(r"[Ii]nput should be ([^,]+).*")  # in typer's message of a value of another kind
_RECIPE_OPTIONS = ("config", "recipe", "config_file", "cfg", "yaml", "config_path")


class Group(TyperGroup):
    """A group of commands that answers an unknown name with the command to type."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names.

        Raises:
            UserError: there is none, and the name is not an option either.
        """
        name = args[0]
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        group = _command_line(ctx)
        own = [f"{group} {near}" for near in nearest(name, self.commands, most=2)]
        if name == "help" and args[1:] and args[1] in self.commands:
            raise UserError(
                "unknown-name", f"no such command: {group} help", hint=f"Did you mean:  red {args[1]} --help"
            )
        meant = commands_for(name, self.commands) if ctx.parent is None else own
        hint = f"Did you mean:  {'   or   '.join(meant)}" if meant else f"Its commands: {group} --help"
        raise UserError("unknown-name", f"no such command: {group} {one_line(name)}", hint=hint)


def usage_error(error: Any, arguments: Sequence[str]) -> UserError:
    """The error to report for one that typer raised for the command line's arguments."""
    context, kind = error.ctx, type(error).__name__
    if kind == "NoSuchOption":
        return _unknown_option(error.option_name, context, arguments)
    message = " ".join(error.format_message().replace("Value error, ", "").split()).removesuffix(".")
    message = message[:1].lower() + message[1:]
    if kind == "MissingParameter":
        return UserError("invalid-option", message, hint=_example(context))
    if kind == "BadOptionUsage":
        return UserError("invalid-option", message, hint=f"Write a value after it: {error.option_name} VALUE")
    message = _RANGE.sub(lambda match: f"it should be {match[1]}", message)
    choice = _CHOICE.search(message)
    near = nearest(choice[1], re.findall(r"'([^']+)'", choice[2])) if choice else []
    return UserError("invalid-option", message, hint=f"{f'Did you mean {near[0]}? ' if near else ''}{_help(context)}")


def _unknown_option(name: str, context: Any, arguments: Sequence[str]) -> UserError:
    """The error for an option that a command does not have: the option or the KEY=VALUE to write instead."""
    given = next((text.partition("=")[0] for text in arguments if text.startswith(name)), name)
    message = f"no such option: {one_line(given)}"
    known = _options(context.command)
    if context.parent is None:
        meant = next(
            (option for option in known if option.startswith(name.lower()) or option.startswith(f"-{name.lower()}")),
            None,
        )
        hint = (
            f"Did you mean:  red {meant}" if meant else "Options follow the command, as in: red train RECIPE --resume"
        )
        return UserError("invalid-option", message, hint=hint)
    if plain_name(given) in _RECIPE_OPTIONS and any(param.name == "recipe" for param in context.command.params):
        hint = f"The recipe has no option: {_command_line(context)} {_value(given, arguments) or 'RECIPE'}"
        return UserError("invalid-option", message, hint=hint)
    unknown = [text.partition("=")[0] for text in arguments if text.startswith("--") and len(text) > len("--")]
    wrong = list(dict.fromkeys([given, *(text for text in unknown if text not in known)]))
    found = {text: _instead(text, _value(text, arguments), context.command) for text in wrong}
    if found[given] is None:
        listed = f"Its options: {', '.join(sorted(option for option in known if option.startswith('--')))}. "
        return UserError("invalid-option", message, hint=f"{listed}{_help(context)}")
    written = " ".join(text for text in found.values() if text)
    alias = alias_of(given)
    note = f" {alias.note}" if alias and alias.note and "=" in written else ""
    return UserError("invalid-option", message, hint=f"Write {written} instead.{note} {_help(context)}")


def _instead(name: str, value: str | None, command: Any) -> str | None:
    """What to write instead of an option that a command does not have; None if nothing is similar."""
    known, plain = _options(command), plain_name(name)
    if same := [option for option in known if plain_name(option) == plain]:
        return _with_value(same[0], value)
    keys = _keys() if any(param.name == "overrides" for param in command.params) else []
    for wanted, otherwise in ((plain, value), (plain.removeprefix("no_"), "false")):
        bare = [key for key in keys if wanted in (key, key.rpartition(".")[2])]
        if len(bare) == 1:
            return f"{bare[0]}={otherwise or _usual_value(bare[0])}"
    if OPTIONS.get(plain) in known:
        return _with_value(OPTIONS[plain], value)
    alias = alias_of(name) if keys else None
    if alias and alias.keys:
        return alias.keys[0] if "=" in alias.keys[0] else f"{alias.keys[0]}={value or 'VALUE'}"
    if near := nearest(name, known, cutoff=0.75):
        return _with_value(near[0], value)
    lasts = {key.rpartition(".")[2]: key for key in keys}
    near = nearest(plain, lasts, cutoff=0.75) or nearest(name.lstrip("-"), keys, cutoff=0.75)
    return f"{lasts.get(near[0], near[0])}={value or 'VALUE'}" if near else None


def _usual_value(key: str) -> str:
    """The value to show for a key that was given as a flag."""
    from red_cli.recipe.explain import key_helps

    return "true" if "true or false" in key_helps()[key].type else "VALUE"


def _keys() -> list[str]:
    """The keys of recipes that hold a value. Their schema is imported only when an option is unknown."""
    from red_cli.recipe.schema import recipe_keys

    return [path for path, key in recipe_keys().items() if not key.is_section]


def _options(command: Any) -> list[str]:
    """The names of a command's options, as they are typed."""
    params = [param for param in command.params if not getattr(param, "hidden", False)]
    names = [name for param in params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")]
    return [*names, "--help", "-h"]


def _value(name: str, arguments: Sequence[str]) -> str | None:
    """The value that follows an option in the arguments, after a space or an equals sign."""
    for number, text in enumerate(arguments):
        if text.startswith(f"{name}="):
            return one_line(text.partition("=")[2])
        if text == name and number + 1 < len(arguments) and not arguments[number + 1].startswith("--"):
            return one_line(arguments[number + 1])
    return None


def _with_value(option: str, value: str | None) -> str:
    """An option and its value as they are typed."""
    return option if value is None else f"{option} {value}"


def _command_line(context: Any) -> str:
    """The command as it is typed: `red` and the names of its commands."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(["red", *names])


def _help(context: Any) -> str:
    """The last sentence of a hint: the command that shows the help."""
    return "" if context is None else f"Help: {_command_line(context)} --help"


def _example(context: Any) -> str:
    """A hint that shows a command line of a command."""
    named = EXAMPLES.get(context.info_name, ())
    return f"For example:  {named[0]}" if named else _help(context)


def commands_for(name: str, existing: Iterable[str]) -> list[str]:
    """The commands that a name from another toolkit, or a misspelt one, is an alias of, of those that exist."""
    known, plain = set(existing), name.lower()
    named = COMMANDS.get(plain) or COMMANDS.get(plain.replace("_", "-")) or ()
    words = {command: command.split()[1] for command in named}
    if fitting := [command for command, word in words.items() if word in known or word.startswith("-")]:
        return fitting
    return [f"red {near}" for near in nearest(name, sorted(known), most=2)]
