"""What Accelerate's launcher asks for is the recipe's, refused or named; nothing is dropped in silence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from red_cli.distributed import launch
from red_cli.distributed.accelerate_settings import take_settings_for_inference, take_settings_for_training
from red_cli.errors import UserError
from red_cli.recipe.load import load_recipe
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Launch

FSDP = {"ACCELERATE_USE_FSDP": "true"}
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true"}
# variables, keys of the recipe -> what the hint says to set; None if they agree
ASKED: list[tuple[dict[str, str], list[str], str | None]] = [
    (FSDP, [], "launch.strategy=fsdp"),
    (FSDP, ["launch.strategy=fsdp"], None),
    ({"ACCELERATE_USE_FSDP": "false"}, [], None),
    (ZERO, ["launch.strategy=fsdp"], "launch.strategy=zero2 or zero3"),
    (ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, ["launch.strategy=zero2"], "launch.strategy=zero2 or zero3"),
    (ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, ["launch.strategy=zero3"], None),
    ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"}, ["launch.strategy=zero3"], "launch.strategy=zero2 or zero3"),
    ({"ACCELERATE_DEEPSPEED_CONFIG_FILE": "x.json"}, ["launch.strategy=zero2"], "launch.deepspeed_config=x.json"),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, ["launch.strategy=zero3"], "launch.offload=true"),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, ["launch.strategy=zero3", "launch.offload=true"], None),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none"}, ["launch.strategy=zero3"], None),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, ["launch.strategy=zero2"], "offload_optimizer"),
    ({"ACCELERATE_GRADIENT_CLIPPING": "0.5"}, [], "train.max_grad_norm=0.5"),
    ({"ACCELERATE_GRADIENT_CLIPPING": "0.5"}, ["train.max_grad_norm=0.5"], None),
    ({"ACCELERATE_GRADIENT_CLIPPING": "0"}, [], "train.max_grad_norm=0"),
    ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, [], "train.batch_size and train.micro_batch_size"),
    ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}, [], None),
    ({"ACCELERATE_MIXED_PRECISION": "bf16"}, ["train.bf16=false"], "train.bf16"),
    ({"ACCELERATE_MIXED_PRECISION": "bf16"}, ["train.bf16=true"], None),
    ({"ACCELERATE_MIXED_PRECISION": "fp16"}, ["train.bf16=true"], "train.bf16"),
    ({"ACCELERATE_MIXED_PRECISION": "no"}, ["train.bf16=false"], None),
    ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, [], "No key does ACCELERATE_DYNAMO_BACKEND"),
    ({"ACCELERATE_DYNAMO_BACKEND": "NO"}, [], None),
    ({"ACCELERATE_USE_MEGATRON_LM": "true"}, [], "No key does ACCELERATE_USE_MEGATRON_LM"),
    ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, [], "No key does ACCELERATE_USE_PARALLELISM_CONFIG"),
    ({"FSDP_OFFLOAD_PARAMS": "true"}, ["launch.strategy=fsdp"], "launch.offload=true"),
    ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, [], "train.gradient_checkpointing=true"),
    ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, ["train.gradient_checkpointing=true"], None),
]


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The environment as it was, without the settings of another test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def read(recipe: Path, *keys: str) -> Recipe:
    return load_recipe(str(recipe), None, keys).recipe


@pytest.mark.parametrize(("variables", "keys", "hint"), ASKED)
def test_what_a_recipe_says_too(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], keys: list[str], hint: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    wanted = read(recipe, *keys)
    if hint is None:
        assert take_settings_for_training(wanted) == []
        assert not any(name in os.environ for name in variables)
        return
    with pytest.raises(UserError) as caught:
        take_settings_for_training(wanted)
    assert caught.value.code == "invalid-launch"
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    assert all(name in os.environ for name in variables)  # so that each process refuses it


def test_all_faults_are_in_one_message(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (FSDP | {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "FSDP_OFFLOAD_PARAMS": "true"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"FSDP=true, ACCELERATE_DYNAMO_BACKEND=INDUCTOR, FSDP_OFFLOAD_PARAMS=true"):
        take_settings_for_training(read(recipe))


def test_the_rest_is_named_or_a_default(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {"FSDP_SHARDING_STRATEGY": "FULL_SHARD", "FSDP_MIN_NUM_PARAMS": "100000000", "FSDP_VERSION": "1",
                "FSDP_FORWARD_PREFETCH": "false", "ACCELERATE_DYNAMO_MODE": "default"}  # fmt: skip
    named = {"FSDP_BACKWARD_PREFETCH": "BACKWARD_POST", "FSDP_OF_LATER": "1", "ACCELERATE_MIXED_PRECISION": "no"}
    for name, value in (FSDP | defaults | named).items():
        monkeypatch.setenv(name, value)
    wanted = read(recipe, "launch.strategy=fsdp", "train.bf16=true")
    [note] = take_settings_for_training(wanted)
    assert all(f"{name}={value}" in note for name, value in named.items())
    assert note.count("=") == len(named)
    assert take_settings_for_training(wanted) == []  # once


def test_predictions(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a training do not affect them; the strategy does."""
    for name, value in (FSDP | {"ACCELERATE_GRADIENT_CLIPPING": "0.5"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError):
        take_settings_for_inference(read(recipe))
    [note] = take_settings_for_inference(read(recipe, "launch.strategy=fsdp"))
    assert "ACCELERATE_GRADIENT_CLIPPING=0.5" in note


@pytest.mark.parametrize("command", ["train", "eval"])
def test_commands_refuse_them(
    red: Callable, recipe: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    folder = recipe.parent / "refused"
    arguments = {"train": [recipe, f"output.dir={folder}"], "eval": [finished]}[command]
    outcome = red(command, *arguments, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "invalid-launch")
    assert outcome.err.count("launch.strategy=fsdp") == 1
    assert not folder.exists()


def test_one_process_of_accelerates_launcher_stays_one(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "visible_devices", lambda: (4, "GPUs"))
    assert launch.processes_to_start(Launch()) == 4
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "default")
    assert launch.processes_to_start(Launch()) == 1
    assert launch.processes_to_start(Launch(num_processes=2)) == 2
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "max-autotune")
    assert take_settings_for_training(read(recipe)) == [
        "Without effect, since the recipe decides: ACCELERATE_DYNAMO_MODE=max-autotune."
    ]
    assert take_settings_for_training(read(recipe)) == []
    assert launch.processes_to_start(Launch()) == 1
