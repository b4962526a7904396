"""Open text files of data, plain or compressed, and explain what is the matter with those that are not UTF-8 text."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from red_cli.errors import UserError, first_line

UNREADABLE = (OSError, EOFError, zlib.error)  # what reading a damaged or vanished file raises
# First bytes of a file -> what it is, and what to do
_OTHER_KINDS = {
    b"\x1f\x8b": ("is compressed by gzip", "Add .gz to its name: train.csv.gz"),
    b"PK\x03\x04": ("is a ZIP archive or an Excel workbook", "Unpack it, or name the workbook .xlsx"),
    b"PAR1": ("is a Parquet file", "Name it .parquet"),
    b"\xff\xfe": ("is UTF-16 text", "Save it as UTF-8."),
    b"\xfe\xff": ("is UTF-16 text", "Save it as UTF-8."),
    b"\xd0\xcf\x11\xe0": ("is an old Excel workbook", "Save it as .xlsx or as CSV in UTF-8."),
}


def _open_bytes(path: Path) -> IO[bytes]:
    """The text file's bytes, decompressed if its name ends with .gz."""
    if path.name.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


@contextmanager
def open_text_file(path: Path, newline: str = "") -> Iterator[IO[str]]:
    r"""The file as UTF-8 text without a byte order mark; `newline` is that of `open`, by default no end is changed.

    Raises:
        UserError: the file is empty, damaged, or not UTF-8 text; also while it is read.
    """
    try:
        with io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except UNREADABLE as error:
        raise UserError("file-damaged", f"{path} cannot be read: {first_line(error)}") from None


def not_utf8(path: Path) -> UserError:
    """The error for a text file that is not UTF-8: what it is instead, or its first line with another encoding."""
    with _open_bytes(path) as file:
        start = file.read(8)
        for magic, (what, hint) in _OTHER_KINDS.items():
            if start.startswith(magic):
                return UserError("file-damaged", f"{path} {what}, not UTF-8 text", hint=hint)
        file.seek(0)
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return UserError(
                    "file-damaged",
                    f"{path}, line {number}: byte {error.start + 1} (0x{byte:02x}) is not UTF-8 text",
                    hint="Save the file as UTF-8.",
                )
    return UserError("file-damaged", f"{path} is not UTF-8 text", hint="Save the file as UTF-8.")
