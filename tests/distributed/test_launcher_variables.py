"""Leftover variables of a launcher are ignored; incomplete or wrong ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from red_cli.distributed.process_group import Processes
from red_cli.distributed.worker_process import check_environment, processes_here, wait_for_first_process
from red_cli.errors import RedError, RunFailed, UserError
from red_cli.inference import runtime
from red_cli.plan import strategy
from red_cli.recipe.load import load_recipe

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


# variables, processes on all machines, machines of the recipe -> processes on this machine
ON_A_MACHINE: dict[str, tuple[dict[str, str], int, int, int]] = {
    "to be started on one": ({}, 8, 1, 8),
    "to be started on two": ({}, 8, 2, 4),
    "started on two by torchrun": ({"RANK": "9", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}, 16, 1, 8),
    "more on this machine than on the other": ({"RANK": "0", "WORLD_SIZE": "12", "LOCAL_WORLD_SIZE": "8"}, 12, 2, 8),
    "started on two by red": ({"RANK": "0", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, 8, 2, 4),
    "by a launcher that does not tell": ({"RANK": "0", "WORLD_SIZE": "8"}, 8, 2, 4),
    "left over": ({"LOCAL_WORLD_SIZE": "8"}, 4, 1, 4),
    "one of several": ({"RANK": "0", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}, 1, 1, 1),
}


@pytest.mark.parametrize("case", ON_A_MACHINE)
def test_the_processes_of_a_machine(case: str, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The strategy and the sharding of predictions divide a machine's memory by its own processes."""
    variables, count, machines, here = ON_A_MACHINE[case]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes_here(count, machines) == here
    keys = ["launch.main_process_ip=x", f"launch.num_machines={machines}", f"launch.num_processes={count}"]
    read = load_recipe(str(recipe), overrides=keys if machines > 1 else []).recipe
    divided: list[int] = []

    def memory(device: torch.device, processes_here: int) -> int:
        divided.append(processes_here)
        return 2**40 // processes_here

    for module in (strategy, runtime):
        monkeypatch.setattr(module, "device_memory", memory)
    monkeypatch.setattr(runtime, "load_skeleton", lambda *_: torch.nn.Linear(2, 2))
    strategy.choose_strategy(read, None, Processes(count=count))
    base = type("Base", (), {"config": None, "kind": None})
    assert not runtime._is_sharded(base, read, Processes(count=count))
    assert divided == [here] * (1 if count == 1 else 2)  # one process needs no strategy
