"""The command chat: talk with a trained model."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from red_cli import console
from red_cli.commands.options import Overrides, RecipeOption, TargetArgument
from red_cli.commands.processes import require_one_process
from red_cli.commands.run_argument import trained_folder
from red_cli.errors import UserError
from red_cli.progress import Terminal

_NEW, _QUIT = "/new", "/quit"
_GREETING = f"Ctrl-D or {_QUIT} ends, {_NEW} starts a new conversation, Ctrl-C stops an answer."


def chat(
    target: TargetArgument,
    overrides: Overrides = None,
    base: Annotated[bool, typer.Option("--base", help="Also show the untuned model's answers.")] = False,
    system: Annotated[str | None, typer.Option(help="A system message to start with.")] = None,
    recipe: RecipeOption = None,
) -> None:
    """Talk with a run of a text task. Each line of standard input is a message."""
    if sys.stdin.isatty() and not console.is_typed():
        raise UserError(
            "invalid-option",
            "chat: what you say cannot be typed in a cell of a notebook",
            hint=f"Pipe it in: !echo TEXT | red chat {shlex.quote(str(target))}",
        )
    with Terminal() as terminal:
        terminal.status("loading the model")
        target, overrides = trained_folder(target, overrides)
        from red_cli.runs.open_trained import open_with_any_recipe

        opened = open_with_any_recipe(target, recipe, overrides or [])
        require_one_process(opened.recipe.launch, "chat", "red predict and red eval share rows over several.")
        console.silence_libraries()
        from red_cli.inference.chat import open_chat

        sessions = open_chat(opened, system, base, terminal)
    if console.is_typed():
        console.print_text(_GREETING, stderr=True)
    warned = False
    while (said := console.ask()) is not None and said.strip() != _QUIT:
        if said.strip() == _NEW:
            for session in sessions:
                session.messages = []
            continue
        if not said.strip():
            continue
        for session in sessions:
            if base:
                console.print_heading("tuned" if session.tuned else "base")
            try:
                forgotten = session.send(said, console.print_piece)
            except UserError as error:
                if not console.is_typed():
                    raise
                console.print_error(error)
                continue
            console.print_piece("\n")
            if forgotten and not warned:
                warned = True
                console.print_text("(the first messages no longer fit and are dropped)", stderr=True)
        console.print_piece("\n")
