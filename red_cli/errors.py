"""The errors that a command reports: a code, a short message, a hint, and the exit code of each kind."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from red_cli.error_codes import Code
from red_cli.formatting import beginning


class RedError(Exception):
    """A failure that a command reports in one short message.

    Args:
        code: what is wrong, for programs; `red_cli.error_codes` has the meaning of each.
        message: what is wrong and where.
        hint: how to correct it.
        faults: the single faults of a recipe: code, where, key, message.
    """

    exit_code = 1

    def __init__(
        self, code: Code, message: str, *, hint: str | None = None, faults: Sequence[Mapping[str, str]] = ()
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.hint = hint
        self.faults = faults

    def to_json(self) -> dict[str, Any]:
        """The error as plain data, for `--json`."""
        found = {"code": self.code, "message": self.message, "hint": self.hint}
        return {"error": {**found, "faults": list(self.faults)} if self.faults else found}

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UserError(RedError):
    """The input is wrong: a key, a file, a column, an adapter, a folder."""

    exit_code = 2


class RunFailed(RedError):
    """The work failed although the input was right, for example by a loss that is not finite."""

    exit_code = 1


class Interrupted(RedError):
    """The user stopped the work (Ctrl-C)."""

    exit_code = 130


_MOST_SHOWN = 80  # characters of a value in a message
_LONGEST_REASON = 200  # characters of another library's message
_LONGEST_NAME = 100  # longer names are not compared
_LONGEST_PATH = 300  # characters of a path


def shown(value: object) -> str:
    """The text of a value for an error: its repr on one line, cut to 80 characters."""
    try:
        text = repr(value[: _MOST_SHOWN + 1] if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # a number with too many digits; a list that contains itself
        text = f"<{type(value).__name__}>"
    return beginning(text, _MOST_SHOWN)


def one_line(text: str, most: int = _MOST_SHOWN) -> str:
    """Text in an error's message without quotation marks, such as a key: on one line, cut to `most` characters."""
    return beginning("".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: most + 1]), most)


def first_line(error: BaseException | str) -> str:
    """The first line of an exception's message, cut to 200 characters; its class if the message is empty."""
    lines = (line.strip() for line in str(error).splitlines())
    return one_line(next((line for line in lines if line), type(error).__name__), _LONGEST_REASON)


def nearest(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The names in `known` that are most similar to a misspelt one in an error, nearest first, ignoring case."""
    if len(name) > _LONGEST_NAME:
        return []
    spelt = {each.lower(): each for each in known}
    return [spelt[near] for near in difflib.get_close_matches(name.lower(), spelt, n=most, cutoff=cutoff)]


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """The hint of an error, "Did you mean …? ", with the nearest of `known`; empty if none is similar."""
    near = nearest(name, known, most=most)
    return f"Did you mean {' or '.join(near)}? " if near else ""


# Messages of libraries that report a full disk without an error number
_FULL_DISK = ("No space left on device", "Disk quota exceeded")


def out_of_space(error: BaseException) -> UserError | None:
    """The error for a full disk, a UserError; None if `error` reports something else."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not full and not any(text in str(error) for text in _FULL_DISK):
        return None
    where = getattr(error, "filename", None)
    return UserError(
        "disk-full",
        "no space left on the disk" + (f": {where}" if where else ""),
        hint="Free some space, or choose another folder.",
    )


def from_os_error(error: OSError) -> UserError:
    """The error for an operating-system error that a user can fix; it names `error.filename`."""
    where = f": {one_line(str(error.filename), _LONGEST_PATH)}" if error.filename else ""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError("no-permission", f"no permission{where}", hint="Choose a folder you may write to.")
    return UserError("os-error", f"{error.strerror or error}{where}")
