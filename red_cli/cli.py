"""The command line: its commands, and the message and exit code of every error."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from red_cli import console
from red_cli.commands import chat, keys, predict, recipes, report, runs, score, training
from red_cli.commands import trained_models as results
from red_cli.commands.examples import examples_of
from red_cli.commands.expand_paths import with_expanded_paths
from red_cli.commands.usage_errors import Group, UsageError, usage_error
from red_cli.errors import Interrupted, RedError, UserError, from_os_error, out_of_space
from red_cli.escape import terminal_text

_INTERRUPTED = 130
_NAMES = ("red", "red-cli")

app = typer.Typer(
    name="red",
    cls=Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Fine-tune transformers by Representation EDiting: two learned vectors after each edited module.",
    epilog="A first run, with nothing to download: red train quickstart",
)
app.command()(training.train)
app.command(cls=training.NamesMethods)(training.compare)
app.command()(training.check)
app.command()(runs.runs)
app.command(name="eval")(results.evaluate)
app.command()(predict.predict)
app.command()(results.export)
app.command()(results.convert)
app.command()(report.report)
app.command(help="Score generated texts against references, as the official E2E NLG scripts do.")(score.score)
app.command()(chat.chat)
app.add_typer(recipes.recipes_app, name="recipes", epilog=examples_of("recipes"))
app.command()(keys.keys)
app.command()(recipes.schema)
for _command in (*app.registered_commands, *recipes.recipes_app.registered_commands):
    assert _command.callback is not None
    _command.callback = with_expanded_paths(_command.callback)
    _command.epilog = examples_of(_command.name or _command.callback.__name__)


def _show_version(wanted: bool) -> None:
    """Print the version and exit, for the command line's option --version."""
    if wanted:
        from red_cli import __version__

        console.print_text(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
    # DeepSpeed's launcher passes it to every process; the environment holds the same.
    local_rank: Annotated[int, typer.Option("--local_rank", hidden=True)] = 0,
) -> None:
    """Options of `red` itself."""


def main() -> None:
    """Run the command line. Every error is one message and an exit code."""
    console.tolerate_any_encoding()
    _check_environment()
    try:
        code = app(prog_name=_called_as(), standalone_mode=False)
        if code == _INTERRUPTED:
            _fail(Interrupted("interrupted", "interrupted"))
        if not code and _is_one_of_several():
            _leave(0)
        sys.exit(code)
    except RedError as error:
        _fail(error)
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # showing the help is all that it asks for
            console.print_text(str(error))
            sys.exit(UserError.exit_code)
        _fail(usage_error(error, sys.argv[1:]))
    except typer.Abort:
        _fail(Interrupted("interrupted", "interrupted"))
    except SystemExit:
        raise
    except BrokenPipeError:
        console.stdout_is_closed()
        sys.exit(1)
    except BaseException as error:
        if _interrupted(error):
            _fail(Interrupted("interrupted", "interrupted"))
        if full := out_of_space(error):
            _fail(full)
        if isinstance(error, OSError):
            _fail(from_os_error(error))
        if os.environ.get("RED_DEBUG"):
            raise
        _fail(RedError("unexpected", f"{type(error).__name__}: {error}", hint="RED_DEBUG=1 shows the traceback."))


def _called_as() -> str:
    """The name of the command line in help and in completion scripts: `red`, or `red-cli` if it is called so."""
    name = Path(sys.argv[0]).stem
    return name if name in _NAMES else _NAMES[0]


def _check_environment() -> None:
    """Check the environment variables of a worker before any command; note those that are ignored."""
    from red_cli.distributed import worker_process as worker

    try:
        dropped = worker.check_environment()
    except RedError as error:  # this process is not yet known to be a worker
        if "--json" in sys.argv:
            console.print_json(error.to_json())
        console.print_error(error)
        sys.exit(error.exit_code)
    if dropped:
        verb = "is" if len(dropped) == 1 else "are"
        text = f"{' and '.join(dropped)} {verb} ignored: RANK and WORLD_SIZE must both be set."
        console.print_text(text, stderr=True)


def _is_one_of_several() -> bool:
    """Whether this command line runs as one of several worker processes."""
    from red_cli.distributed import worker_process as worker

    return worker.is_worker()


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused an error, directly or through errors that wrap it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fail(error: RedError) -> NoReturn:
    """Report the error that ended a command, also as JSON if asked for, and exit with its code."""
    from red_cli.distributed import worker_process as worker

    if worker.report_failure(error):
        _leave(error.exit_code)
    if not worker.is_main():
        worker.wait_for_first_process(error)
        worker.show_failure(terminal_text(f"error: {error}\n"))
        _leave(error.exit_code)
    if os.environ.get("RED_DEBUG"):
        traceback.print_exception(error)
    if "--json" in sys.argv:
        console.print_json(error.to_json())
    console.print_error(error)
    sys.exit(error.exit_code)


def _leave(code: int) -> NoReturn:
    """Exit the command line of this worker immediately: normal clean-up would block on ranks that hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
