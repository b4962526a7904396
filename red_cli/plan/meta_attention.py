"""Attention on the meta device that saves the same tensors for the backward pass as the fused kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from red_cli.distributed.device import chosen_device


class FusedAttention(TorchFunctionMode):
    """Inside the block, scaled_dot_product_attention on the meta device saves inputs, output and one number per row.

    The fused kernels of CPUs and GPUs save these. The meta device would use the unfused computation, which saves the
    scores of all pairs of tokens. CPUs use it too if dropout is on, and MPS always; then nothing is changed.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            device = chosen_device().type
            fused = device != "mps" and not (device == "cpu" and options.get("dropout_p"))
            inputs = [*args, *(options[name] for name in ("query", "key", "value") if name in options)][:3]
            if fused and all(tensor.is_meta for tensor in inputs):
                return _Fused.apply(*inputs)
        return func(*args, **options)


class _Fused(torch.autograd.Function):
    """Attention with shapes only: query (…, length, width), value (…, key length, value width)."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        context.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _, _ = context.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
