"""Print results on standard output, and notes and errors on standard error."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from red_cli.errors import Interrupted, RedError
from red_cli.escape import json_text, terminal_line, terminal_text
from red_cli.formatting import aligned, wrapped

if TYPE_CHECKING:
    from rich.console import Console


_LABEL_WIDTH = 14
_NARROWEST = 24  # columns of values below which they continue under the label
_ERROR = "error:"
_LOUD = ("datasets", "huggingface_hub", "accelerate", "torch", "bitsandbytes", "DeepSpeed", "matplotlib", "lm_eval")


def print_json(value: Any) -> None:
    """Print `value` as JSON on standard output."""
    print(json_text(json.dumps(value, indent=2, ensure_ascii=False)))


def print_error(error: RedError) -> None:
    """Print an error and its hint on standard error."""
    console = console_of(stderr=True)
    if isinstance(error, Interrupted):
        print_styled(console, _fitted(console, terminal_text(error.message)))
    else:
        message = _fitted(console, f"{_ERROR} {terminal_text(error.message)}")
        console.print(_ERROR, style="bold red", end="")
        print_styled(console, message.removeprefix(_ERROR))
    if error.hint:
        print_styled(console, _fitted(console, terminal_text(error.hint)))


def print_lines(rows: Iterable[tuple[str, str]], stderr: bool = False) -> None:
    """Print rows of label and value. Long values are not cut; on a terminal they are wrapped at spaces."""
    console = console_of(stderr)
    rows = [(terminal_line(label), terminal_line(value)) for label, value in rows]
    width = max([_LABEL_WIDTH, *(len(label) + 2 for label, _ in rows)])
    for label, value in rows:
        row = f"{label:<{width}}"
        fitted = _fitted(console, row + value, width if console.width - width >= _NARROWEST else 0)
        print_styled(console, row, style="bold", end="")
        print_styled(console, fitted.removeprefix(row))


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first row is the heading. The first column is aligned left and the others right."""
    console = console_of(stderr=False)
    for number, line in enumerate(aligned([[terminal_line(cell) for cell in cells] for cells in rows])):
        print_styled(console, line, style="bold" if number == 0 else None)


def print_parts(tables: Iterable[Sequence[Sequence[str]]], rows: Sequence[tuple[str, str]]) -> None:
    """Print tables, then rows of label and value, each after an empty line."""
    for table in tables:
        print_text()
        print_columns(table)
    if rows:
        print_text()
        print_lines(rows)


def print_text(text: str = "", stderr: bool = False) -> None:
    """Print a text as it is; a note, on standard error, is wrapped at spaces on a terminal."""
    console = console_of(stderr)
    print_styled(console, _fitted(console, terminal_text(text)) if stderr else terminal_text(text))


def print_heading(text: str) -> None:
    """Print a heading."""
    print_styled(console_of(stderr=False), terminal_line(text), style="bold")


def print_piece(text: str) -> None:
    """Print a piece of a streamed text without a newline."""
    print(terminal_text(text), end="", flush=True)


def copy_to_stdout(file: IO[bytes]) -> None:
    """Print a file on standard output, byte by byte as it is; where that takes text alone, as UTF-8 text."""
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:  # a notebook's
        shutil.copyfileobj(io.TextIOWrapper(file, "utf-8", newline=""), sys.stdout)


def is_typed() -> bool:
    """Whether standard input is a terminal that can be typed on; the one that a notebook gives to a command is not."""
    return sys.stdin.isatty() and not in_notebook()


def ask() -> str | None:
    """Read a line of standard input, with a prompt on a terminal; None at the end of the input."""
    if not is_typed():
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() then supports editing and history
    try:
        return input("> ")
    except EOFError:
        print()
        return None


def confirm(question: str) -> bool:
    """Ask a question on a terminal; Enter means yes, and the end of the input no."""
    try:
        return input(f"{question} [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        print()
        return False


def width() -> int:
    """The width of standard output in columns."""
    return console_of(stderr=False).width


def next_commands(*commands: str) -> None:
    """Print commands that a user may want to run next, if there are any."""
    if not commands:
        return
    console = console_of(stderr=False)
    console.print("\n[bold]Next[/]")
    for command in commands:
        print_styled(console, f"  {terminal_line(command)}")


def silence_libraries() -> None:
    """Hide warnings and progress bars of other libraries, unless RED_DEBUG is set.

    Call this before importing them, because some warn while they load.
    """
    if os.environ.get("RED_DEBUG"):
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # such failures are also raised
    warnings.filterwarnings("ignore")
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)

    import datasets
    import transformers

    from red_cli.distributed.device import has_accelerator

    if not has_accelerator():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed reports on standard output that it found none
    transformers.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its import resets the level
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


@contextlib.contextmanager
def silenced_libraries() -> Iterator[None]:
    """Hide warnings and progress bars of other libraries inside the block; afterwards they are as before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some warn while they load
        import datasets
        import transformers

    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    verbosity, bars = transformers.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    of_datasets = datasets.are_progress_bars_disabled()
    with warnings.catch_warnings():
        silence_libraries()
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            transformers.logging.set_verbosity(verbosity)
            if bars:
                transformers.utils.logging.enable_progress_bar()
            if not of_datasets:
                datasets.enable_progress_bars()


def print_dimmed(lines: Iterable[tuple[str, bool]]) -> None:
    """Print lines, each dimmed or not."""
    console = console_of(stderr=False)
    for text, dimmed in lines:
        print_styled(console, terminal_line(text), style="dim" if dimmed else None)


def console_of(stderr: bool) -> Console:
    """A rich console on standard output or standard error; in a notebook, plain text without control codes."""
    from rich.console import Console

    return Console(stderr=stderr, force_terminal=False if in_notebook() else None, force_jupyter=False)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, or was started from a cell.

    The output is kept with the notebook then, although commands of cells get a terminal: whatever a terminal would
    overwrite stays. The first variable is set by what starts the kernel, the second by the kernel.
    """
    return "JPY_PARENT_PID" in os.environ or "matplotlib_inline" in os.environ.get("MPLBACKEND", "")


def _fitted(console: Console, text: str, indent: int = 0) -> str:
    """Text broken at spaces to fit a terminal; unchanged elsewhere, so that programs read whole lines."""
    return wrapped(text, console.width, indent) if console.is_terminal else text


def print_styled(console: Console, text: str, style: str | None = None, end: str = "\n") -> None:
    """Print escaped text without wrapping it or interpreting it as markup."""
    console.print(text, style=style, end=end, markup=False, highlight=False, soft_wrap=True)


def tolerate_any_encoding() -> None:
    """Print `?` for characters that the terminal's encoding cannot represent, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def stdout_is_closed() -> None:
    """Discard further output after the reader of a pipe has exited."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
