"""What `accelerate launch`, its configuration file and its variables ask of a run, held against the recipe.

The recipe alone says how a run trains. A setting that agrees with it is taken away, so that neither Accelerate nor
transformers acts on it again. One that does not is refused, and one without effect is named. Imports no torch.
Variables that are not here are Accelerate's own matter, such as ACCELERATE_USE_CPU and ACCELERATE_CPU_AFFINITY.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from red_cli.distributed.deepspeed_config import STAGE, offload_device
from red_cli.distributed.worker_process import is_worker, started_by_red
from red_cli.errors import UserError, one_line
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import DEEPSPEED

_OFF = ("", "auto", "f", "false", "n", "no", "none", "off")  # in lower case: nothing is asked for
_PRECISION = "ACCELERATE_MIXED_PRECISION"
_LAUNCHED = "ACCELERATE_DYNAMO_MODE"  # set by Accelerate's launcher alone, for one process and for several
_NO_MODE = "default"
_OWN_FILE = "the file of launch.deepspeed_config"


@dataclass(frozen=True)
class _Setting:
    """How a recipe says what a variable asks for.

    Attributes:
        agrees: whether the recipe does what the value asks for.
        keys: what to set in the recipe for a value, so that they agree; None if no recipe agrees with it.
        why: why no recipe agrees with other values, which are to be removed.
    """

    agrees: Callable[[str, Recipe], bool]
    keys: Callable[[str], str | None]
    why: str = "no key does this"


def _sets(keys: str) -> Callable[[str], str | None]:
    """What to set for every value."""
    return lambda value: keys


def _sets_for(keys: Mapping[str, str]) -> Callable[[str], str | None]:
    """What to set by the value in lower case; None for all others."""
    return lambda value: keys.get(value.lower())


def _no_keys(value: str) -> None:
    """Of a setting that no recipe agrees with."""


def _never(value: str, recipe: Recipe) -> bool:
    """Of a setting that nothing in a recipe does."""
    return False


def _has_strategy(*strategies: str) -> Callable[[str, Recipe], bool]:
    return lambda value, recipe: recipe.launch.strategy in strategies


def _same_file(value: str, recipe: Recipe) -> bool:
    own = recipe.launch.deepspeed_config
    return own is not None and Path(own).resolve() == Path(value).resolve()


def _norm(value: str) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return None
    return found if 0 <= found < math.inf else None


def _same_norm(value: str, recipe: Recipe) -> bool:
    return _norm(value) == (recipe.train.max_grad_norm or 0.0)


def _sets_norm(value: str) -> str | None:
    norm = _norm(value)
    return None if norm is None else f"train.max_grad_norm={value if norm else 'null'}"


def _offloads(section: str) -> Callable[[str, Recipe], bool]:
    """Of a setting that a section of DeepSpeed's own file has."""
    return lambda value, recipe: value.lower() == offload_device(recipe.launch, section)


def _offloads_parameters(value: str, recipe: Recipe) -> bool:
    return (value.lower() == "cpu" and recipe.launch.offload) or _offloads("offload_param")(value, recipe)


def _compiles(value: str, recipe: Recipe) -> bool:
    return value.lower() == "inductor" and recipe.train.compile


def _same_precision(value: str, recipe: Recipe) -> bool:
    return value.lower() == "bf16" and _computes_in_bf16(recipe)


def _computes_in_bf16(recipe: Recipe) -> bool:
    if recipe.train.bf16 == "auto":
        from red_cli.distributed.device import chosen_device, prefers_bf16

        return prefers_bf16(chosen_device())
    return recipe.train.bf16


# Of every command that starts processes
_OF_PROCESSES = {
    "ACCELERATE_USE_FSDP": _Setting(_has_strategy("fsdp"), _sets("launch.strategy=fsdp")),
    "ACCELERATE_USE_DEEPSPEED": _Setting(_has_strategy(*DEEPSPEED), _sets("launch.strategy=zero2 or zero3")),
    "ACCELERATE_USE_MEGATRON_LM": _Setting(_never, _no_keys),
    "ACCELERATE_USE_PARALLELISM_CONFIG": _Setting(_never, _no_keys),
    "FSDP_OFFLOAD_PARAMS": _Setting(  # no keys: with ACCELERATE_USE_FSDP they would contradict each other
        lambda value, recipe: recipe.launch.offload,
        _no_keys,
        "launch.strategy=fsdp has no offload; launch.strategy=zero3 with launch.offload=true has",
    ),
}
# Of a training alone
_OF_TRAINING = {
    _PRECISION: _Setting(
        _same_precision, _sets_for({"bf16": "train.bf16=true"}), "red computes in float32 or bfloat16 (train.bf16)"
    ),
    "ACCELERATE_DYNAMO_BACKEND": _Setting(
        _compiles, _sets_for({"inductor": "train.compile=true"}), "train.compile compiles by inductor alone"
    ),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": _Setting(
        _never, _no_keys, "it follows from train.batch_size and train.micro_batch_size"
    ),
    "ACCELERATE_GRADIENT_CLIPPING": _Setting(_same_norm, _sets_norm, "train.max_grad_norm is above 0, or null"),
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": _Setting(
        lambda value, recipe: value == str(STAGE.get(recipe.launch.strategy)),
        _sets_for({str(stage): f"launch.strategy={strategy}" for strategy, stage in STAGE.items()}),
        "red has stages 2 and 3, launch.strategy=zero2 and zero3",
    ),
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": _Setting(
        _same_file, lambda value: f"launch.deepspeed_config={one_line(value)}"
    ),
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": _Setting(
        _offloads_parameters,
        _sets_for({"cpu": "launch.strategy=zero3 and launch.offload=true", "nvme": f"offload_param in {_OWN_FILE}"}),
    ),
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": _Setting(
        _offloads("offload_optimizer"), _sets_for(dict.fromkeys(("cpu", "nvme"), f"offload_optimizer in {_OWN_FILE}"))
    ),
    "FSDP_ACTIVATION_CHECKPOINTING": _Setting(
        lambda value, recipe: recipe.train.gradient_checkpointing, _sets("train.gradient_checkpointing=true")
    ),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": _Setting(_never, _no_keys),
}
# Families of variables, whose members beyond those above have no effect
_FAMILIES = ("ACCELERATE_DEEPSPEED_", "ACCELERATE_DYNAMO_", "ACCELERATE_FP8_", "FSDP_", "MEGATRON_LM_",
             "PARALLELISM_CONFIG_")  # fmt: skip
# variable -> values, in lower case, that ask for nothing: defaults of Accelerate's launcher, and what red always does
_UNASKED = {
    **dict.fromkeys([*_OF_PROCESSES, "FSDP_ACTIVATION_CHECKPOINTING", "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD"], ("0",)),
    _LAUNCHED: (_NO_MODE,),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1",),
    "FSDP_VERSION": ("1", "2"),
    "FSDP_SHARDING_STRATEGY": ("1", "full_shard"),
    "FSDP_RESHARD_AFTER_FORWARD": ("true", "full_shard"),
    "FSDP_MIN_NUM_PARAMS": ("100000000",),
    "FSDP_AUTO_WRAP_POLICY": ("transformer_based_wrap",),
    "FSDP_BACKWARD_PREFETCH": ("backward_pre",),
    "FSDP_STATE_DICT_TYPE": ("full_state_dict",),
    "FSDP_USE_ORIG_PARAMS": ("true",),
    "FSDP_CPU_RAM_EFFICIENT_LOADING": ("true",),
    "FSDP_SYNC_MODULE_STATES": ("true",),
}


def started_alone() -> bool:
    """Whether Accelerate's launcher started this process as the only one."""
    return _LAUNCHED in os.environ and not is_worker()


def require_settings_for_training(recipe: Recipe) -> None:
    """Check that Accelerate's settings ask for nothing but what a recipe to train says.

    Raises:
        UserError: they contradict it; all that do are named.
    """
    _require(recipe, _OF_PROCESSES | _OF_TRAINING)


def take_settings_for_training(recipe: Recipe) -> list[str]:
    """Check Accelerate's settings as above and remove them from the environment.

    Returns:
        Notes for the user: the settings that have no effect, if there are any.
    """
    return _take(recipe, _OF_PROCESSES | _OF_TRAINING)


def take_settings_for_inference(recipe: Recipe) -> list[str]:
    """Do as `take_settings_for_training` for predictions, which the settings of a training do not affect.

    Args:
        recipe: with the launch section of the command.
    """
    return _take(recipe, _OF_PROCESSES)


def _require(recipe: Recipe, settings: Mapping[str, _Setting]) -> None:
    """Check that the recipe agrees with every setting that asks for something."""
    faults = {name: value for name, value in _asking(settings).items() if not settings[name].agrees(value, recipe)}
    if not faults:
        return
    keys = {name: settings[name].keys(value) for name, value in faults.items()}
    known = dict.fromkeys(key for key in keys.values() if key is not None)
    removed = [f"{name} ({settings[name].why})" for name, key in keys.items() if key is None]
    hints = [f"Set {'; '.join(known)}."] if known else []
    hints += [f"Remove from Accelerate's settings: {'; '.join(removed)}."] if removed else []
    raise UserError(
        "invalid-launch",
        f"Accelerate's settings ask for what the recipe does not say: {_listed(faults)}",
        hint=" ".join(hints),
    )


def _take(recipe: Recipe, settings: Mapping[str, _Setting]) -> list[str]:
    """Check the settings, remove all variables that red decides itself, and name those without effect."""
    _require(recipe, settings)
    found = [name for name in os.environ if name in _OF_PROCESSES | _OF_TRAINING or name.startswith(_FAMILIES)]
    ignored = {name: value for name, value in _asking(found).items() if name not in settings}
    precision = os.environ.get(_PRECISION, "")
    if precision.lower() == "no" and not started_by_red() and _computes_in_bf16(recipe):
        ignored[_PRECISION] = precision
    for name in found:
        del os.environ[name]
    if _LAUNCHED in found:
        os.environ[_LAUNCHED] = _NO_MODE  # asks for nothing, and `started_alone` still knows
    return [f"Without effect, since the recipe decides: {_listed(ignored)}."] if ignored else []


def _asking(names: Iterable[str]) -> dict[str, str]:
    """Those variables that are set and ask for something: name -> value."""
    found = {name: os.environ.get(name, "").strip() for name in names}
    return {name: value for name, value in found.items() if value.lower() not in (*_OFF, *_UNASKED.get(name, ()))}


def _listed(variables: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={one_line(value)}" for name, value in variables.items())
