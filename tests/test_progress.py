"""The lines that a run prints: on a terminal and without one."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from red_cli import progress
from red_cli.formatting import rounded_rate, speed_text, without_time_of_day
from red_cli.progress import Terminal
from red_cli.progress_lines import evaluation_fields, sample_lines, wrapped_fields
from red_cli.train.events import Evaluation, Sample, Step

STEP = r"^\d\d:\d\d:\d\d  step (\d+)/\d+  (.*)$"


def _lines(
    first: int, total: int, seconds: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[int, str]:
    """Step -> the rest of its line, printed from step `first` on with steps of this duration."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    terminal = Terminal()
    terminal.live = False
    for step in range(first, total + 1):
        now += seconds
        terminal.stepped(Step(step, total, 0.0, 0.5, 1e-3, 10.0))
    lines = re.findall(STEP, capsys.readouterr().err, flags=re.MULTILINE)
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


@pytest.mark.parametrize(
    ("total", "seconds", "fewest", "most"),
    [(12, 0.01, 0, 0), (100, 1.0, 8, 10), (10_000, 0.01, 8, 10), (1_000, 100.0, 333, 334), (3, 100.0, 3, 3)],
)
def test_plain_lines_are_neither_a_flood_nor_rare(
    total: int, seconds: float, fewest: int, most: int,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert fewest <= len(_lines(1, total, seconds, monkeypatch, capsys)) <= most


@pytest.mark.parametrize(
    ("per_second", "text", "stored"),
    [
        (12345.67, "12,346 rows/s", 12345.7),
        (12.34, "12 rows/s", 12.34),
        (3.456789, "3.5 rows/s", 3.457),
        (0.0417, "0.04 rows/s", 0.0417),
        (0.008, "2 min 05 s/row", 0.008),
        (0.0, "0 rows/s", 0.0),
    ],
)
def test_slow_rates_have_digits(per_second: float, text: str, stored: float) -> None:
    assert speed_text(per_second, "rows") == text
    assert rounded_rate(per_second) == stored


EVALUATION = Evaluation(
    step=6, total_steps=12, epoch=1.0, metric="f1", value=0.5, best=True, training_loss=0.25,
    scores={"accuracy": 0.75, "f1": 0.5, "accuracy.boolq": 1.0}, names={"f1": "f1 of b\x1b[2J"},
    samples=[Sample("x" * 500 + "\nwhy?", "be\x1b[2Jcause " + "y" * 500, None), Sample("a", "b", "c")],
)  # fmt: skip


def test_an_evaluation_is_a_line_that_stays(capsys: pytest.CaptureFixture[str]) -> None:
    fields = evaluation_fields(EVALUATION)
    assert fields[:3] == ["epoch 1.00", "step 6/12", "loss 0.2500"]
    assert [field.partition(" (best)")[1] for field in fields[3:]] == [" (best)", ""]
    Terminal().evaluated(EVALUATION)
    first, *samples = capsys.readouterr().err.splitlines()
    assert without_time_of_day(first) == "  ".join(fields).replace("\x1b", "\\x1b")
    assert all(line != without_time_of_day(line) and "\x1b" not in line for line in (first, *samples))
    assert [without_time_of_day(line).split()[0] for line in samples] == [
        "prompt",
        "answer",
        "prompt",
        "answer",
        "label",
    ]


def test_an_evaluation_replaces_the_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    output = StringIO()
    monkeypatch.setattr(progress, "console_of", lambda stderr: Console(file=output, force_terminal=True, width=100))
    with Terminal() as terminal:
        terminal.stepped(Step(6, 12, 0.0, 0.5, 1e-3, 10.0))
        terminal.evaluated(EVALUATION)
    before, _, _ = output.getvalue().partition("epoch 1.00  step 6/12")
    assert before.rpartition("\x1b[2K")[2] == "\x1b[1m"  # the live line is erased, and the evaluation is bold


@pytest.mark.parametrize("width", [20, 80, 200])
def test_lines_fit_their_width(width: int) -> None:
    fields = evaluation_fields(EVALUATION)
    lines = wrapped_fields(fields, width)
    assert max(map(len, lines)) <= max(width, 2 + max(map(len, fields)))
    assert "  ".join(line.strip() for line in lines) == "  ".join(fields)
    samples = sample_lines(EVALUATION.samples, width)
    assert max(map(len, samples)) <= width
    assert samples[0].endswith("why?")


def test_a_slow_step_shows_its_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Terminal() as terminal:
        for what, seconds in (("reading", 5.0), ("run 1: step 1", 8.0), ("run 1: step 2", 9.0), ("loading", 30.0)):
            terminal.status(what)
            now += seconds
    assert [without_time_of_day(line) for line in capsys.readouterr().err.splitlines()] == [
        "run 1: 17 s",
        "loading: 30 s",
    ]


def test_decoding_shows_tokens_per_second(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    terminal = Terminal()
    for done in range(0, 11):
        terminal.decoding(done, 10, done * 5)
        now += 20.0
    lines = [without_time_of_day(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "decoded 1/10  0.25 tokens/s  3 min 00 s left"
    assert len(lines) == 10


def test_a_resumed_prediction_shows_the_rows_of_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    terminal = Terminal()
    for done in range(4000, 10_001, 1000):
        terminal.predicting(done, 10_000)
        now += 20.0
    lines = capsys.readouterr().err.splitlines()
    assert all(line != without_time_of_day(line) for line in lines)
    assert without_time_of_day(lines[0]) == "predicted 5,000/10,000  50 rows/s  1 min 40 s left"
    assert len(lines) == 6
