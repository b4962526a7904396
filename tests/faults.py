"""What tests assert of an error instead of its wording."""

from __future__ import annotations

from red_cli.errors import RedError


def codes(error: RedError) -> list[str]:
    """The code of each fault of a recipe; the error's own if it has none."""
    return [fault["code"] for fault in error.faults] or [error.code]


def fault_at(error: RedError, key: str) -> dict[str, str]:
    """The one fault of a key: its `where`, `code` and `message`."""
    [fault] = [fault for fault in error.faults if fault["key"] == key]
    return dict(fault)
