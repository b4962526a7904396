"""DeepSpeed's configuration for a recipe. Imports no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.files import read_json
from red_cli.recipe.sections import DEEPSPEED, Launch

STAGE = {"zero2": 2, "zero3": 3}
# Parameters of up to this size are not sharded, so the vectors never are
_PERSISTENCE_THRESHOLD = 100_000
# Sections of a configuration file that would contradict the recipe
_FROM_THE_RECIPE = {
    "optimizer": "the optimiser is the recipe's (train.learning_rate, train.weight_decay, …)",
    "scheduler": "the schedule is the recipe's (train.lr_scheduler_type, …)",
    "fp16": "the vectors stay float32; the base's dtype is model.dtype",
    "bf16": "the vectors stay float32; the base's dtype is model.dtype, and train.bf16 computes in bfloat16",
}


def require_deepspeed(launch: Launch, max_grad_norm: float | None) -> None:
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
    deepspeed_config(launch, launch.strategy, max_grad_norm)


def deepspeed_config(launch: Launch, strategy: str, max_grad_norm: float | None) -> dict[str, Any]:
    """Complete the configuration of `launch.deepspeed_config`, or an empty one, by the settings of the recipe.

    Raises:
        UserError: the file is missing or damaged, or contradicts the recipe.
    """
    stage = STAGE[strategy]
    config: dict[str, Any] = {}
    if launch.deepspeed_config is not None:
        path = Path(launch.deepspeed_config)
        config = read_json(path)
        if not isinstance(config, dict) or not isinstance(config.get("zero_optimization", {}), dict):
            raise UserError("unsupported-file", f"{path}: not a DeepSpeed configuration: keys and values are expected")
        for key, why in _FROM_THE_RECIPE.items():
            section = config.get(key)
            if section and not (isinstance(section, dict) and section.get("enabled") in (False, "auto")):
                raise UserError("invalid-launch", f"{path}: {key}: {why}", hint=f"Remove {key} from the file.")
            config.pop(key, None)
        if config.get("zero_optimization", {}).get("stage", stage) != stage:
            raise UserError(
                "invalid-launch",
                f"{path}: zero_optimization.stage is {config['zero_optimization']['stage']}, "
                f"but launch.strategy is {strategy}",
                hint="Change one of them.",
            )
    zero = {
        "stage3_param_persistence_threshold": _PERSISTENCE_THRESHOLD,
        **{key: value for key, value in config.get("zero_optimization", {}).items() if value != "auto"},
        "stage": stage,
    }
    if launch.offload:
        from red_cli.distributed.device import has_accelerator

        zero["offload_param"] = {"device": "cpu", "pin_memory": has_accelerator()}
    return {
        **{key: value for key, value in config.items() if value != "auto" and key != "train_batch_size"},
        "zero_optimization": zero,
        # The training loop shards the rows and sets the accumulation boundary itself.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm or 0.0,
        "zero_allow_untested_optimizer": True,
    }
