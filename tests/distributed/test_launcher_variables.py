"""Leftover variables of a launcher are ignored; incomplete or wrong ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from red_cli.distributed.worker_process import check_environment, wait_for_first_process
from red_cli.errors import RedError, RunFailed, UserError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
COMPLETE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK is ignored"),
        ({"LOCAL_RANK": "junk", "WORLD_SIZE": "4"}, "WORLD_SIZE and LOCAL_RANK are ignored"),
        ({"RANK": "", "WORLD_SIZE": ""}, ""),
        ({"RANK": "", "WORLD_SIZE": "2", "LOCAL_RANK": " "}, "WORLD_SIZE is ignored"),
        ({"RANK": "3"}, "RANK is ignored"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, ""),
    ],
)
def test_left_over_variables_are_ignored(
    red: Callable, recipe: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    outcome = red("train", recipe, "train.max_steps=1")
    assert outcome.code == 0, outcome.err
    assert words in outcome.err
    assert outcome.err.count("ignored") == bool(words)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"LOCAL_RANK": None}, ["LOCAL_RANK"]),
        ({"MASTER_ADDR": None, "MASTER_PORT": None}, ["MASTER_ADDR, MASTER_PORT"]),
        ({"RANK": "first"}, ["RANK", "'first'"]),
        ({"WORLD_SIZE": "-2"}, ["WORLD_SIZE", "'-2'"]),
        ({"LOCAL_RANK": "1.5"}, ["LOCAL_RANK", "'1.5'"]),
        ({"MASTER_PORT": "http"}, ["MASTER_PORT", "'http'"]),
        ({"RANK": "4", "WORLD_SIZE": "4"}, ["RANK is 4", "WORLD_SIZE is 4"]),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_wrong_variables_are_named(
    red: Callable,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    changes: dict[str, str | None],
    facts: list[str],
) -> None:
    for name, value in {**COMPLETE, **changes}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    outcome = red(command, recipe)
    assert outcome.code == 2
    assert all(fact in outcome.err for fact in facts)
    with pytest.raises(UserError) as caught:
        check_environment()
    assert caught.value.code == "invalid-launch"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "local_rank", "joined", "waits"),
    [
        (UserError("invalid-launch", "x"), "0", False, False),
        (UserError("invalid-launch", "x"), "1", False, True),
        (UserError("invalid-launch", "x"), "1", True, False),  # it may be of this process alone
        (RunFailed("run-failed", "x"), "1", False, False),
    ],
)
def test_wrong_input_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, error: RedError, local_rank: str, joined: bool, waits: bool
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: joined)
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    wait_for_first_process(error)
    assert bool(slept) == waits
