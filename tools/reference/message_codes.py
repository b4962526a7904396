"""The page of message codes."""

from __future__ import annotations

from red_cli.error_codes import MEANINGS
from red_cli.errors import Interrupted, RunFailed, UserError
from reference.markdown import block, code, page, table, text

_INTRODUCTION = """\
Every error of `red` has a code. A code keeps its meaning between versions, while a message may be reworded. With
`--json`, a failed command prints the code on standard output, next to the message and a hint:
"""
_EXAMPLE = (
    "$ red eval nothing --json",
    '{"error": {"code": "folder-not-found", "message": "no such folder: nothing", "hint": …}}',
)
_AFTER = """\
`invalid-recipe` also has `faults`: for each fault its `code`, the place (`where`), the `key` and the `message`.
From Python, the exceptions `UserError`, `RunFailed` and `Interrupted` of `red_cli.errors` have the attribute
`code`. [Troubleshooting](../guide/troubleshooting.md) says what to do about the most frequent ones.
"""


def make() -> str:
    """The text of the page."""
    exits = [
        ("0", "The command succeeded."),
        (
            str(RunFailed.exit_code),
            "The work failed although the input was right, or an error that red does not expect.",
        ),
        (
            str(UserError.exit_code),
            "The input is wrong, such as a key, a file or an option. The hint says how to fix it.",
        ),
        (str(Interrupted.exit_code), "You stopped the command."),
    ]
    return page(
        "Message codes",
        _INTRODUCTION,
        block(_EXAMPLE, "text"),
        _AFTER,
        "## Exit codes",
        table(("exit code", "meaning"), exits),
        "## Codes",
        table(("code", "meaning"), ((code(name), text(meaning)) for name, meaning in MEANINGS.items())),
    )
