"""What Accelerate's launcher asks for is the recipe's, refused or named; nothing is dropped in silence."""

from __future__ import annotations

import json
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
OWN = "launch.deepspeed_config=deepspeed.json"  # which offloads
# variables, keys of the recipe -> what the hint says to set or to remove; None if they agree
ASKED: list[tuple[dict[str, str], list[str], str | None]] = [
    (FSDP, [], "launch.strategy=fsdp"),
    (FSDP, ["launch.strategy=fsdp"], None),
    ({"ACCELERATE_USE_FSDP": "false"}, [], None),
    (ZERO, ["launch.strategy=fsdp"], "launch.strategy=zero2 or zero3"),
    (ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, ["launch.strategy=zero2"], "launch.strategy=zero3"),
    (ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, ["launch.strategy=zero3"], None),
    ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"}, ["launch.strategy=zero3"],
     "Remove from Accelerate's settings: ACCELERATE_DEEPSPEED_ZERO_STAGE (red has stages 2 and 3"),
    ({"ACCELERATE_DEEPSPEED_CONFIG_FILE": "x.json"}, ["launch.strategy=zero2"], "launch.deepspeed_config=x.json"),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, ["launch.strategy=zero3"], "launch.offload=true"),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, ["launch.strategy=zero3", "launch.offload=true"], None),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none"}, ["launch.strategy=zero3"], None),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "nvme"}, ["launch.strategy=zero3"], "offload_param in the file"),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "nvme"}, ["launch.strategy=zero3", OWN], None),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, ["launch.strategy=zero3", OWN], "launch.offload=true"),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "tape"}, ["launch.strategy=zero3", OWN], "no key does this"),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, ["launch.strategy=zero2"], "offload_optimizer in the"),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, ["launch.strategy=zero2", OWN], None),
    ({"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "nvme"}, ["launch.strategy=zero2", OWN], "offload_optimizer in"),
    ({"ACCELERATE_GRADIENT_CLIPPING": "0.5"}, [], "train.max_grad_norm=0.5"),
    ({"ACCELERATE_GRADIENT_CLIPPING": "0.5"}, ["train.max_grad_norm=0.5"], None),
    ({"ACCELERATE_GRADIENT_CLIPPING": "0"}, [], "train.max_grad_norm=null"),
    ({"ACCELERATE_GRADIENT_CLIPPING": "0"}, ["train.max_grad_norm=null"], None),
    ({"ACCELERATE_GRADIENT_CLIPPING": "-1"}, [], "Remove from Accelerate's settings: ACCELERATE_GRADIENT_CLIPPING"),
    ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, ["train.batch_size=8", "train.micro_batch_size=2"],
     "Remove from Accelerate's settings: ACCELERATE_GRADIENT_ACCUMULATION_STEPS (it follows from train.batch_size"),
    ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}, [], None),
    ({"ACCELERATE_MIXED_PRECISION": "bf16"}, ["train.bf16=false"], "train.bf16=true"),
    ({"ACCELERATE_MIXED_PRECISION": "bf16"}, ["train.bf16=true"], None),
    ({"ACCELERATE_MIXED_PRECISION": "fp16"}, ["train.bf16=true"],
     "Remove from Accelerate's settings: ACCELERATE_MIXED_PRECISION (red computes in float32 or bfloat16"),
    ({"ACCELERATE_MIXED_PRECISION": "no"}, ["train.bf16=false"], None),
    ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, [], "train.compile=true"),
    ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, ["train.compile=true"], None),
    ({"ACCELERATE_DYNAMO_BACKEND": "EAGER"}, ["train.compile=true"],
     "Remove from Accelerate's settings: ACCELERATE_DYNAMO_BACKEND (train.compile compiles by inductor"),
    ({"ACCELERATE_DYNAMO_BACKEND": "NO"}, [], None),
    ({"ACCELERATE_USE_MEGATRON_LM": "true"}, [], "Remove from Accelerate's settings: ACCELERATE_USE_MEGATRON_LM"),
    ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, [], "ACCELERATE_USE_PARALLELISM_CONFIG (no key does this)"),
    ({"FSDP_OFFLOAD_PARAMS": "true"}, ["launch.strategy=fsdp"],
     "Remove from Accelerate's settings: FSDP_OFFLOAD_PARAMS (launch.strategy=fsdp has no offload"),
    ({"FSDP_OFFLOAD_PARAMS": "true"}, ["launch.strategy=zero3", "launch.offload=true"], None),
    (FSDP | {"FSDP_OFFLOAD_PARAMS": "true"}, ["launch.strategy=fsdp"], "FSDP_OFFLOAD_PARAMS (launch.strategy=fsdp has"),
    (FSDP | {"FSDP_OFFLOAD_PARAMS": "true"}, ["launch.strategy=zero3", "launch.offload=true"], "launch.strategy=fsdp"),
    ({"FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": "true"}, [], "no key does this"),
    ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, [], "train.gradient_checkpointing=true"),
    ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, ["train.gradient_checkpointing=true"], None),
]  # fmt: skip


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
    zero = {"offload_param": {"device": "nvme"}, "offload_optimizer": {"device": "cpu"}}
    (recipe.parent / "deepspeed.json").write_text(json.dumps({"zero_optimization": zero}))
    monkeypatch.chdir(recipe.parent)
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
    with pytest.raises(UserError, match=r"FSDP=true, FSDP_OFFLOAD_PARAMS=true, ACCELERATE_DYNAMO_BACKEND=INDUCTOR"):
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
    for name, value in (
        FSDP | {"ACCELERATE_GRADIENT_CLIPPING": "0.5", "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}
    ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError):
        take_settings_for_inference(read(recipe))
    [note] = take_settings_for_inference(read(recipe, "launch.strategy=fsdp"))
    assert "ACCELERATE_GRADIENT_CLIPPING=0.5" in note
    assert "ACCELERATE_DYNAMO_BACKEND=INDUCTOR" in note


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
