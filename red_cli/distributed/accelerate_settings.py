"""What `accelerate launch`, its configuration file and its variables ask of a run, held against the recipe.

The recipe alone says how a run trains. A setting that agrees with it is taken away, so that neither Accelerate nor
transformers acts on it again. One that does not is refused, and one without effect is named. Imports no torch.
Variables that are not here are Accelerate's own matter, such as ACCELERATE_USE_CPU and ACCELERATE_CPU_AFFINITY.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from red_cli.distributed.deepspeed_config import STAGE
from red_cli.distributed.worker_process import is_worker, started_by_red
from red_cli.errors import UserError, one_line
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import DEEPSPEED

_OFF = ("", "auto", "f", "false", "n", "no", "none", "off")  # in lower case: nothing is asked for
_PRECISION = "ACCELERATE_MIXED_PRECISION"
_LAUNCHED = "ACCELERATE_DYNAMO_MODE"  # set by Accelerate's launcher alone, for one process and for several
_NO_MODE = "default"


@dataclass(frozen=True)
class _Setting:
    """How a recipe says what a variable asks for.

    Attributes:
        agrees: whether the recipe does what the value asks for.
        keys: what to set in the recipe, {value} for the value; None if no key does it.
    """

    agrees: Callable[[str, Recipe], bool]
    keys: str | None


def _never(value: str, recipe: Recipe) -> bool:
    """Of a setting that nothing in a recipe does."""
    return False


def _has_strategy(*strategies: str) -> Callable[[str, Recipe], bool]:
    return lambda value, recipe: recipe.launch.strategy in strategies


def _same_file(value: str, recipe: Recipe) -> bool:
    own = recipe.launch.deepspeed_config
    return own is not None and Path(own).resolve() == Path(value).resolve()


def _same_norm(value: str, recipe: Recipe) -> bool:
    try:
        return float(value) == (recipe.train.max_grad_norm or 0.0)
    except ValueError:
        return False


def _same_precision(value: str, recipe: Recipe) -> bool:
    return value.lower() == "bf16" and _computes_in_bf16(recipe)


def _computes_in_bf16(recipe: Recipe) -> bool:
    if recipe.train.bf16 == "auto":
        from red_cli.distributed.device import chosen_device, prefers_bf16

        return prefers_bf16(chosen_device())
    return recipe.train.bf16


# Of every command that starts processes
_OF_PROCESSES = {
    "ACCELERATE_USE_FSDP": _Setting(_has_strategy("fsdp"), "launch.strategy=fsdp"),
    "ACCELERATE_USE_DEEPSPEED": _Setting(_has_strategy(*DEEPSPEED), "launch.strategy=zero2 or zero3"),
    "ACCELERATE_USE_MEGATRON_LM": _Setting(_never, None),
    "ACCELERATE_USE_PARALLELISM_CONFIG": _Setting(_never, None),
    "ACCELERATE_DYNAMO_BACKEND": _Setting(_never, None),
    "FSDP_OFFLOAD_PARAMS": _Setting(_never, "launch.strategy=zero3 and launch.offload=true"),
}
# Of a training alone
_OF_TRAINING = {
    _PRECISION: _Setting(_same_precision, "train.bf16 (red computes in float32 or bfloat16)"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": _Setting(_never, "train.batch_size and train.micro_batch_size"),
    "ACCELERATE_GRADIENT_CLIPPING": _Setting(_same_norm, "train.max_grad_norm={value}"),
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": _Setting(
        lambda value, recipe: value == str(STAGE.get(recipe.launch.strategy)), "launch.strategy=zero2 or zero3"
    ),
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": _Setting(_same_file, "launch.deepspeed_config={value}"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": _Setting(
        lambda value, recipe: value.lower() == "cpu" and recipe.launch.offload,
        "launch.offload=true, or offload_param in the file of launch.deepspeed_config",
    ),
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": _Setting(
        _never, "offload_optimizer in the file of launch.deepspeed_config"
    ),
    "FSDP_ACTIVATION_CHECKPOINTING": _Setting(
        lambda value, recipe: recipe.train.gradient_checkpointing, "train.gradient_checkpointing=true"
    ),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": _Setting(_never, None),
}
# Families of variables, whose members beyond those above have no effect
_FAMILIES = ("ACCELERATE_DEEPSPEED_", "ACCELERATE_DYNAMO_", "ACCELERATE_FP8_", "FSDP_", "MEGATRON_LM_",
             "PARALLELISM_CONFIG_")  # fmt: skip
# variable -> values in lower case that Accelerate's launcher sets unasked, or that red does in any case
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
    keys = [keys.format(value=one_line(value)) for name, value in faults.items() if (keys := settings[name].keys)]
    others = [name for name in faults if settings[name].keys is None]
    hints = [f"Set {'; '.join(dict.fromkeys(keys))}."] if keys else []
    hints += [f"No key does {', '.join(others)}: remove it from Accelerate's settings."] if others else []
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
