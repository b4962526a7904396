"""The lines that a run prints without a terminal."""

from __future__ import annotations

import re

import pytest

from red_cli import console
from red_cli.console import Terminal
from red_cli.train.events import Step


def _lines(
    first: int, total: int, seconds: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[int, str]:
    """Step -> the rest of its line, printed from step `first` on with steps of this duration."""
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    terminal = Terminal()
    terminal.live = False
    for step in range(first, total + 1):
        now += seconds
        terminal.stepped(Step(step, total, 0.0, 0.5, 1e-3, 10.0))
    lines = re.findall(r"^step (\d+)/\d+  (.*)$", capsys.readouterr().err, flags=re.MULTILINE)
    return {int(step): rest.rpartition("  ")[2] for step, rest in lines}


def test_a_resumed_run_prints_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = _lines(1, 1000, 6.0, monkeypatch, capsys)
    assert list(whole) == list(range(50, 1001, 50))
    assert whole[500] == "50 min 00 s left"
    resumed = _lines(401, 1000, 6.0, monkeypatch, capsys)
    assert list(resumed) == list(range(450, 1001, 50))
    assert {step: resumed[step] for step in resumed} == {step: whole[step] for step in resumed}


def test_one_step_is_too_few_for_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _lines(1, 10, 60.0, monkeypatch, capsys)
    assert lines[1] == "time left: not known"
    assert lines[2] == "8 min 00 s left"
