"""DeepSpeed's ZeRO-2 and ZeRO-3 as an engine. Trainable parameters stay float32 for every dtype of the base."""

from __future__ import annotations

import logging
import math
import os
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from red_cli.distributed.deepspeed_config import STAGE
from red_cli.distributed.parameter_chunks import Sharding
from red_cli.distributed.process_group import Processes
from red_cli.distributed.sharded_base import partition_base
from red_cli.distributed.step_numbers import OwnShare, StepNumbers
from red_cli.errors import UserError, one_line
from red_cli.methods.method import Trained

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Zero:
    """DeepSpeed's engine: ZeRO-2 shards gradients and moments, ZeRO-3 the base as well.

    Raises:
        UserError: DeepSpeed refuses the configuration.
    """

    def __init__(
        self,
        model: nn.Module,
        trained: Trained,
        optimizer: torch.optim.Optimizer,
        processes: Processes,
        config: dict[str, Any],
        sharding: Sharding | None,
    ) -> None:
        import deepspeed
        from deepspeed.runtime.config import DeepSpeedConfigError

        if processes.device.type == "cpu":
            # Compiled at first use under a lock that a killed process never releases; gloo serves as well.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        if not os.environ.get("RED_DEBUG"):
            logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        self.processes, self.trained, self.optimizer = processes, trained, optimizer
        # DeepSpeed gives the optimiser shards of flat parameters; checkpoints hold the state per parameter.
        self.groups = optimizer.state_dict()["param_groups"]
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.sharded = config["zero_optimization"]["stage"] == STAGE["zero3"]
        if sharding is not None:
            partition_base(trained.model, sharding, config)
        try:
            self.engine: Any = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
        except (ValueError, DeepSpeedConfigError) as error:
            what = one_line(" ".join(str(error).split()))
            raise UserError("invalid-launch", f"launch.deepspeed_config: DeepSpeed refuses it: {what}") from error
        self.model: nn.Module = self.engine

    def set_accumulation_boundary(self, last: bool) -> None:
        self.engine.set_gradient_accumulation_boundary(last)

    def divisor(self, weight: float) -> float:
        """The weight of all ranks: DeepSpeed reduces gradients during the backward pass."""
        return self.processes.all_reduce_sum(weight)

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss * self.processes.count)  # DeepSpeed takes the mean over the processes

    def step(self, limit: float | None, own: OwnShare) -> StepNumbers:
        """Step as `Engine.step`, but also by a norm that is not finite; `limit` is in DeepSpeed's configuration."""
        loss, norm = self.processes.all_reduce_sum(float(own.loss)), math.nan
        if math.isfinite(loss):
            self.engine.step()
            norm = float(self.engine.get_global_grad_norm())
        stop = any(self.processes.any_rank(own.stop))
        return StepNumbers(*(torch.tensor(number, dtype=torch.float64) for number in (loss, norm, stop)))

    def gathered_parameters(self, change: bool = False) -> AbstractContextManager[Any]:
        if not self.sharded:
            return nullcontext()
        import deepspeed

        parameters = self.trained.parameters(self.trained.names)
        gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(
            parameters, modifier_rank=0 if change else None
        )
        return gathered

    def optimizer_state(self) -> dict[str, Any]:
        from deepspeed.utils import safe_get_full_optimizer_state

        groups = [
            {**{key: value for key, value in group.items() if key != "params"}, "params": numbered["params"]}
            for numbered, group in zip(self.groups, self.optimizer.param_groups, strict=True)
        ]
        steps = [state["step"] for state in self.optimizer.state.values() if state]
        if not steps:
            return {"state": {}, "param_groups": groups}
        self._link()
        state = {}
        for number, parameter in enumerate(self.parameters):
            moments = {key: safe_get_full_optimizer_state(parameter, key).cpu() for key in _MOMENTS}
            # a new tensor: AdamW increments the step of each parameter in place
            step = torch.tensor(float(steps[0]), dtype=torch.float32)
            state[number] = {"step": step, **moments}
        return {"state": state, "param_groups": groups}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Load a state; the parameters were loaded before the engine was built."""
        for group, stored in zip(self.optimizer.param_groups, state["param_groups"], strict=True):
            group.update({key: value for key, value in stored.items() if key != "params"})
        if not state["state"]:
            return
        for flat in self._flat():
            step = state["state"][0]["step"].to(flat.device)
            self.optimizer.state[flat] = {"step": step.clone(), **{key: torch.zeros_like(flat) for key in _MOMENTS}}
        self._link()
        for number, parameter in enumerate(self.parameters):
            for key in _MOMENTS:
                self._set(parameter, state["state"][number][key], key)

    def _link(self) -> None:
        """Link the parameters of ZeRO-2 to their shards of the moments, so that DeepSpeed can gather them.

        DeepSpeed does so after the first step of the first group, when the other groups have no moments yet.
        """
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        if self.sharded:
            return
        rest = iter(self.parameters)
        for numbered, flat in zip(self.groups, self._flat(), strict=True):
            lazy_init_hp_params_optimizer_state(list(islice(rest, len(numbered["params"]))), flat, self.optimizer.state)

    def _set(self, parameter: nn.Parameter, value: Tensor, key: str) -> None:
        """Set a moment of a parameter; of ZeRO-3 this rank's shard, padded, which `safe_set_full_…` does not pad."""
        from deepspeed.utils import (
            safe_get_local_fp32_param,
            safe_set_full_optimizer_state,
            safe_set_local_optimizer_state,
        )

        value = value.to(self.processes.device)
        if not self.sharded:
            safe_set_full_optimizer_state(parameter, value, key)
            return
        own = safe_get_local_fp32_param(parameter).numel()
        padded = value.new_zeros(own * self.processes.count)
        padded[: value.numel()] = value.flatten()
        safe_set_local_optimizer_state(parameter, padded[own * self.processes.index :][:own], key)

    def _flat(self) -> list[Tensor]:
        """The flat parameters of this rank, which the optimiser steps; ZeRO-3 gives it one at a time."""
        if self.sharded:
            from deepspeed.checkpoint.constants import FP32_FLAT_GROUPS

            return list(self.engine.optimizer.state_dict()[FP32_FLAT_GROUPS])
        return [flat for group in self.optimizer.param_groups for flat in group["params"]]
