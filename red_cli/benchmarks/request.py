"""What the command line asks of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from red_cli.errors import UserError


@dataclass(frozen=True)
class SuiteRequest:
    """A benchmark and its options, as given.

    Attributes:
        suite: its name, or names of tasks of lm-evaluation-harness, commas between.
        overrides: KEY=VALUE as given.
        questions: file of questions to answer.
        template: the chat template to ask with.
        shots: examples before each question of a harness task.
        tasks: folder with further harness tasks.
        limit: so many questions of each task only.
    """

    suite: str
    overrides: Sequence[str] = ()
    questions: Path | None = None
    template: str | None = None
    shots: int | None = None
    tasks: Path | None = None
    limit: int | None = None

    def only(self, *names: str) -> None:
        """Refuse options but `names`.

        Raises:
            UserError: another one is given.
        """
        given = [
            name for name in ("questions", "template", "shots", "tasks", "limit") if getattr(self, name) is not None
        ]
        if idle := [name for name in given if name not in names]:
            raise UserError("invalid-option", f"--{idle[0]} has no effect with --suite {self.suite}")
