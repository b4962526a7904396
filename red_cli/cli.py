"""The command line: its commands, and the message and exit code of every error."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from red_cli import console
from red_cli.commands import chat, recipes, report, runs, score, training
from red_cli.commands import trained_models as results
from red_cli.errors import Interrupted, RedError, from_os_error, out_of_space
from red_cli.escape import terminal_text

_INTERRUPTED = 130

app = typer.Typer(
    name="red",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune transformers by Representation EDiting: two learned vectors after each edited module.",
    epilog="A first run, with nothing to download: red train quickstart",
)
app.command()(training.train)
app.command(cls=training.NamesMethods)(training.compare)
app.command()(training.check)
app.command()(runs.runs)
app.command(name="eval")(results.evaluate)
app.command()(results.export)
app.command()(results.convert)
app.command()(report.report)
app.command()(score.score)
app.command()(chat.chat)
app.add_typer(recipes.recipes_app, name="recipes")
app.command()(recipes.schema)


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
        app()
    except RedError as error:
        _fail(error)
    except SystemExit as exit_:
        if exit_.code == _INTERRUPTED:
            _fail(Interrupted("interrupted", "interrupted"))
        if not exit_.code and _is_one_of_several():
            _leave(0)
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


def _check_environment() -> None:
    """Check the environment variables of a worker before any command; note those that are ignored."""
    from red_cli.distributed import worker_process as worker

    try:
        dropped = worker.check_environment()
    except RedError as error:  # this process is not yet known to be a worker
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
