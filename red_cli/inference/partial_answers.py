"""Keep the answers to the rows of a file while others are predicted, so that a stopped prediction resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from red_cli.errors import UserError
from red_cli.inference.answers import Answer


class PartialAnswers:
    """A file with a line that says what is predicted, then a line for each answer, in the rows' order.

    Answers are added for whole parts of the file, and only whole parts are resumed from: the batches of a part are then
    those of a prediction that nobody stopped.

    Args:
        path: the file.
        subject: all that decides the answers.
        sizes: the number of rows of each part.
    """

    def __init__(self, path: Path, subject: str, sizes: Sequence[int]) -> None:
        self.path, self.sizes = path, sizes
        self._subject = json.dumps({"subject": subject}) + "\n"
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)

    @property
    def texts(self) -> Path:
        """The file of the texts that are generated for the part in progress."""
        return self.path.with_name(self.path.name.replace(".partial", ".texts.partial"))

    def open(self) -> int:
        """Begin or resume; returns the number of parts whose answers are there.

        Raises:
            UserError: another process predicts to the same output.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(
                "folder-in-use", f"another process writes {self.path}", hint="Wait until it ends, or name another file."
            ) from None
        done, end = self._complete()
        with self.path.open("r+b" if end else "wb") as file:
            if end:
                file.truncate(end)
            else:
                file.write(self._subject.encode())
        return done

    def add(self, answers: Sequence[Answer]) -> None:
        """Add the answers to a part."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(answer.to_line() for answer in answers))
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> Iterator[Answer]:
        """All answers, in the rows' order."""
        with self.path.open(encoding="utf-8") as file:
            next(file)
            for line in file:
                yield Answer.of_line(line)

    def release(self) -> None:
        """Let another process use the file."""
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the files of a prediction that is complete."""
        self.path.unlink(missing_ok=True)
        self.texts.unlink(missing_ok=True)

    def _complete(self) -> tuple[int, int]:
        """The parts whose answers are all there, and the byte at which they end; (0, 0) if another file is there."""
        if not self.path.is_file():
            return 0, 0
        with self.path.open("rb") as file:
            if file.readline().decode(errors="replace") != self._subject:
                return 0, 0
            end = file.tell()
            for done, size in enumerate(self.sizes):
                lines = [file.readline() for _ in range(size)]
                if not all(map(_is_whole, lines)):
                    return done, end
                end = file.tell()
        return len(self.sizes), end


def _is_whole(line: bytes) -> bool:
    """Whether a line is one that was written to its end."""
    try:
        Answer.of_line(line.decode())
    except (ValueError, TypeError):
        return False
    return line.endswith(b"\n")
