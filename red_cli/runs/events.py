"""What a command reports while it works. Apart from the runtime, because checks before any import report as well."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Receives what happens while a model is evaluated, decoded from, or exported."""

    def note(self, text: str) -> None:
        """One line that the user should see."""

    def status(self, what: str) -> None:
        """Something that may take a while starts."""

    def evaluating(self, done: int, total: int) -> None:
        """So many rows of a split are predicted."""

    def decoding(self, done: int, total: int) -> None:
        """Texts are generated for so many prompts of a split."""

    def writing(self, done: int, total: int) -> None:
        """So many bytes of a large file are written."""


class NullListener:
    """A listener that shows nothing."""

    def note(self, text: str) -> None: ...

    def status(self, what: str) -> None: ...

    def evaluating(self, done: int, total: int) -> None: ...

    def decoding(self, done: int, total: int) -> None: ...

    def writing(self, done: int, total: int) -> None: ...
