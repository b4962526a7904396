"""A tensor's byte range in a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from red_cli.errors import UserError

COPY_AGAIN = "Fetch or copy the base again."


@dataclass(frozen=True)
class StoredTensor:
    """A tensor stored row by row in bytes `start` to `end` (excluded) of `file`; `dtype` is safetensors' name."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def rows(self, first: int, last: int) -> StoredTensor:
        """The rows `first` to `last` (excluded) of the first dimension."""
        row = self.size // self.shape[0]
        shape = (last - first, *self.shape[1:])
        return StoredTensor(self.file, self.dtype, shape, self.start + first * row, self.start + last * row)

    def read(self) -> bytes:
        """Read the bytes.

        Raises:
            UserError: the file is shorter than it was.
        """
        with self.file.open("rb") as file:
            content = os.pread(file.fileno(), self.size, self.start)
        if len(content) != self.size:
            raise UserError(f"{self.file} is cut short", hint=COPY_AGAIN)
        return content
