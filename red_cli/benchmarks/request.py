"""A benchmark and its options, as the command line gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from red_cli.errors import UserError


@dataclass(frozen=True)
class SuiteRequest:
    """A benchmark and its options.

    Attributes:
        suite: its name, or names of tasks of lm-evaluation-harness, separated by commas.
        overrides: KEY=VALUE arguments.
        questions: file of questions to answer.
        template: chat template of the prompts.
        shots: examples before each question of a harness task.
        tasks: folder of further harness tasks.
        limit: most questions of each task.
    """

    suite: str
    overrides: Sequence[str] = ()
    questions: Path | None = None
    template: str | None = None
    shots: int | None = None
    tasks: Path | None = None
    limit: int | None = None

    def only(self, *names: str) -> None:
        """Check that only the options `names` are given.

        Raises:
            UserError: another option is given.
        """
        given = [
            name for name in ("questions", "template", "shots", "tasks", "limit") if getattr(self, name) is not None
        ]
        if idle := [name for name in given if name not in names]:
            raise UserError("invalid-option", f"--{idle[0]} has no effect with --suite {self.suite}")
