"""What a command reports while it works. Apart from the runtime, because checks before any import report as well."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Receives progress and notes of evaluation, generation and export."""

    def note(self, text: str) -> None:
        """Show the user one line."""

    def status(self, what: str) -> None:
        """A step that may take a while starts; in `step: detail` another detail belongs to the same step."""

    def evaluating(self, done: int, total: int) -> None:
        """`done` of `total` rows are predicted."""

    def predicting(self, done: int, total: int) -> None:
        """`done` of `total` rows of a file are predicted."""

    def decoding(self, done: int, total: int, tokens: int) -> None:
        """`done` of `total` prompts are decoded, with `tokens` generated since this decoding started."""

    def writing(self, done: int, total: int) -> None:
        """`done` of `total` bytes of a large file are written."""


class NullListener:
    """A listener that shows nothing."""

    def note(self, text: str) -> None: ...

    def status(self, what: str) -> None: ...

    def evaluating(self, done: int, total: int) -> None: ...

    def predicting(self, done: int, total: int) -> None: ...

    def decoding(self, done: int, total: int, tokens: int) -> None: ...

    def writing(self, done: int, total: int) -> None: ...
