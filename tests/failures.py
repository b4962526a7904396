"""Failures that tests expect: the error's code, and the facts that its message or hint must have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from red_cli.errors import RedError, UserError

if TYPE_CHECKING:
    from tests.conftest import Outcome


@contextmanager
def fails(code: str, *facts: str, kind: type[RedError] = UserError) -> Iterator[None]:
    """Expect an error of this code inside the block."""
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code
    for fact in facts:
        assert fact in str(caught.value)


def assert_failed(outcome: Outcome, code: str, *facts: str, exit_code: int = 2) -> None:
    """Check that a command with `--json` failed with this code, and names all `facts`."""
    assert outcome.code == exit_code, outcome.err
    assert "Traceback" not in outcome.err
    error = outcome.json["error"]
    assert error["code"] == code, outcome.err
    for fact in facts:
        assert fact in f"{error['message']}\n{error['hint']}"


def codes(error: RedError) -> list[str]:
    """The code of each fault of a recipe; the error's own if it has none."""
    return [fault["code"] for fault in error.faults] or [error.code]


def fault_at(error: RedError, key: str) -> dict[str, str]:
    """The one fault of a key: its `where`, `code` and `message`."""
    [fault] = [fault for fault in error.faults if fault["key"] == key]
    return dict(fault)
