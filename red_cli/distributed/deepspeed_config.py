"""DeepSpeed's configuration for a recipe. Imports no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.files import read_json
from red_cli.recipe.schema import Train
from red_cli.recipe.sections import DEEPSPEED, Launch

STAGE = {"zero2": 2, "zero3": 3}
# Parameters of up to this size are not sharded, so the vectors never are
_PERSISTENCE_THRESHOLD = 100_000
_FLOAT32 = "the vectors stay float32; the base's dtype is model.dtype, and train.bf16 computes in bfloat16"
# Keys of a configuration file that would contradict the recipe or the training loop -> why
_REFUSED = {
    "optimizer": "the optimiser is the recipe's (train.learning_rate, train.weight_decay, …)",
    "scheduler": "the schedule is the recipe's (train.lr_scheduler_type, …)",
    **dict.fromkeys(("fp16", "bf16", "amp"), _FLOAT32),
    "torch_autocast": "the precision is the recipe's (train.bf16)",
    "data_types": "gradients of the vectors are float32",
    "gradient_accumulation_steps": "it follows from train.batch_size and train.micro_batch_size",
    **dict.fromkeys(("managed_gradient_accumulation", "gradient_allreduce_op"), "red decides how gradients are summed"),
    **dict.fromkeys(("elasticity", "curriculum_learning", "data_efficiency"), "the rows of a step are the recipe's"),
    **dict.fromkeys(
        ("progressive_layer_drop", "compression_training", "hybrid_engine", "tensor_parallel", "autotuning"),
        "red trains the base as it is, and shards it by ZeRO alone",
    ),
}
# Keys that may say what the recipe says -> its key in `train`
_SHARED = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_clipping": "max_grad_norm",
}


def require_deepspeed(launch: Launch, train: Train) -> None:
    """If the recipe needs DeepSpeed, check that it is installed and that its configuration can be used.

    Raises:
        UserError: DeepSpeed is not installed, or its configuration cannot be used.
    """
    if launch.strategy not in DEEPSPEED:
        return
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            "missing-dependency",
            "launch.strategy: deepspeed is not installed",
            hint="Install it: pip install 'red-finetune[deepspeed]'",
        )
    deepspeed_config(launch, launch.strategy, train)


def deepspeed_config(launch: Launch, strategy: str, train: Train) -> dict[str, Any]:
    """Complete the configuration of `launch.deepspeed_config`, or an empty one, by the settings of the recipe.

    All other keys of the file are DeepSpeed's to read.

    Raises:
        UserError: the file is missing or damaged, or contradicts the recipe.
    """
    config = {} if launch.deepspeed_config is None else _read(Path(launch.deepspeed_config), strategy, train)
    zero = {
        "stage3_param_persistence_threshold": _PERSISTENCE_THRESHOLD,
        **config.pop("zero_optimization", {}),
        "stage": STAGE[strategy],
    }
    if launch.offload:
        zero["offload_param"] = _offloaded(zero.get("offload_param"), launch.deepspeed_config)
    return {
        "zero_force_ds_cpu_optimizer": False,  # with offload_optimizer, torch's AdamW steps on the CPU
        **config,
        "zero_optimization": zero,
        # The training loop shards the rows and sets the accumulation boundary itself.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": train.max_grad_norm or 0.0,
    }


def offload_device(launch: Launch, section: str) -> str | None:
    """The device in the section offload_param or offload_optimizer of `launch.deepspeed_config`; None without it.

    Raises:
        UserError: the file is missing, or not JSON.
    """
    found = None if launch.deepspeed_config is None else read_json(Path(launch.deepspeed_config))
    for key in ("zero_optimization", section, "device"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _read(path: Path, strategy: str, train: Train) -> dict[str, Any]:
    """The keys of a user's file that are DeepSpeed's alone; those of the recipe must agree with it."""
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("zero_optimization", {}), dict):
        raise UserError("unsupported-file", f"{path}: not a DeepSpeed configuration: keys and values are expected")
    for key, why in _REFUSED.items():
        section = config.pop(key, None)
        off = isinstance(section, dict) and section.get("enabled") in (False, "auto")
        if section and section != "auto" and not off:
            raise UserError("invalid-launch", f"{path}: {key}: {why}", hint=f"Remove {key} from the file.")
    config = _without_auto(config)
    for key, own in _SHARED.items():
        value, wanted = config.pop(key, None), getattr(train, own)
        if value is not None and value != (wanted or 0):
            raise UserError(
                "invalid-launch",
                f"{path}: {key} is {value}, but train.{own} is {'null' if wanted is None else wanted}",
                hint=f"Set train.{own}={value or 'null'}, or remove {key} from the file.",
            )
    stage = config.get("zero_optimization", {}).get("stage", STAGE[strategy])
    if stage != STAGE[strategy]:
        raise UserError(
            "invalid-launch",
            f"{path}: zero_optimization.stage is {stage}, but launch.strategy is {strategy}",
            hint="Change one of them.",
        )
    return config


def _without_auto(content: dict[str, Any]) -> dict[str, Any]:
    """A section without the values "auto", which leave a key to red or to DeepSpeed, and with its own sections so."""
    return {
        key: _without_auto(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value != "auto"
    }


def _offloaded(section: dict[str, Any] | None, path: str | None) -> dict[str, Any]:
    """The section offload_param for `launch.offload`, completed from the file's own."""
    from red_cli.distributed.device import has_accelerator

    complete = {"device": "cpu", "pin_memory": has_accelerator(), **(section or {})}
    if complete["device"] != "cpu":
        raise UserError(
            "invalid-launch",
            f"{path}: zero_optimization.offload_param.device is {complete['device']}, but launch.offload takes the CPU",
            hint="Omit launch.offload, or change the file.",
        )
    return complete
