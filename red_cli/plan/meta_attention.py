"""Attention without data that keeps for the backward pass what the fused kernels keep, on devices that have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class FusedAttention(TorchFunctionMode):
    """Inside the block, scaled_dot_product_attention on the meta device keeps its inputs, its output, a number a row.

    So do the kernels of CPUs and GPUs. The meta device takes the plain computation instead, which keeps the scores of
    every pair of tokens. With dropout CPUs do as well, and it is left as it is.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            fused = torch.cuda.is_available() or not options.get("dropout_p")
            inputs = [*args, *(options[name] for name in ("query", "key", "value") if name in options)][:3]
            if fused and all(tensor.is_meta for tensor in inputs):
                return _Fused.apply(*inputs)
        return func(*args, **options)


class _Fused(torch.autograd.Function):
    """The shapes of attention: query (…, length, width), value (…, any length, own width)."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        context.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _, _ = context.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
