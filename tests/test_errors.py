"""Messages of other libraries' exceptions, and signals that a system may not have."""

from __future__ import annotations

import signal

import pytest

from red_cli.errors import first_line
from red_cli.signals import handling, known_signals


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb"), "a"),
        (ValueError("\n\n  a  \nb"), "a"),
        (ValueError(""), "ValueError"),
        (ValueError("\n \n"), "ValueError"),
        (ConnectionError(), "ConnectionError"),
        (KeyError("x"), "'x'"),
    ],
)
def test_the_first_line_of_an_exception(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_missing_signals_are_left_out() -> None:
    assert known_signals("SIGINT", "SIGNOTHING") == [signal.SIGINT]


def test_handlers_come_back() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []
    with handling(known_signals("SIGTERM"), lambda number, frame: seen.append(number)):
        signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before
