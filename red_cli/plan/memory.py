"""Estimate the memory of a training step, and find the micro-batch that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PretrainedConfig, PreTrainedModel

from red_cli.base_model.base_dtype import base_dtype
from red_cli.base_model.peak_memory import out_of_memory
from red_cli.distributed.device import chosen_device, empty_cache, shares_memory
from red_cli.distributed.machine_memory import available_memory
from red_cli.edit.attached_adapters import Counts
from red_cli.errors import RunFailed
from red_cli.recipe.sections import Model
from red_cli.tasks.text.token_loss import CHUNK_BYTES

_ADAM_BYTES = 16  # per float32 parameter: value, gradient and two moments
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "nf4": 0.5}
GATHERED_BLOCKS = 2  # of a sharded base: the one that computes, and the next, which is prefetched
_LOGITS_BYTES, _LOGITS_COPIES = 4, 3  # float32: logits, softmax and gradient
_SAFE_SHARE = 0.8


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak memory of a training step, in bytes.

    `libraries` is the memory that this process has in use already; 0 on a device with memory of its own.
    """

    libraries: int
    base: int
    trained: int
    activations_per_row: int
    logits_per_row: int
    rows: int

    @property
    def total(self) -> int:
        return self.of_rows(self.rows)

    def of_rows(self, rows: int) -> int:
        """The peak with `rows` sequences at once."""
        logits = min(self.logits_per_row * rows, CHUNK_BYTES * _LOGITS_COPIES)
        return self.libraries + self.base + self.trained + self.activations_per_row * rows + logits


def estimate_memory(
    model: PreTrainedModel,
    counts: Counts,
    base_bytes_per_parameter: float,
    rows: int,
    lengths: Mapping[str, int],
    labelled: int,
) -> MemoryEstimate:
    """Estimate the peak memory of a training step over `rows` sequences, from a model on the meta device.

    A forward pass on the meta device records every tensor that autograd would save.

    Args:
        lengths: tokens of the longest row, by input name: inputs_embeds, decoder_inputs_embeds.
        labelled: the number of tokens per row that get logits over the vocabulary.
    """
    return MemoryEstimate(
        libraries=psutil.Process().memory_info().rss if shares_memory(chosen_device()) else 0,
        base=int(counts.base * base_bytes_per_parameter),
        trained=(counts.edited + counts.head) * _ADAM_BYTES,
        activations_per_row=_saved_bytes(model, lengths),
        logits_per_row=labelled * model.get_input_embeddings().weight.shape[0] * _LOGITS_BYTES * _LOGITS_COPIES,
        rows=rows,
    )


def bytes_per_parameter(model: Model, config: PretrainedConfig) -> float:
    """Bytes per parameter of the base, in the dtype or quantisation of the recipe."""
    return _BYTES[model.quantization or base_dtype(model, config).name]


def _saved_bytes(model: PreTrainedModel, lengths: Mapping[str, int]) -> int:
    """Bytes that autograd saves for one row of these lengths."""
    kept: dict[int, tuple[int, torch.Tensor]] = {}
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            kept[storage._cdata] = (storage.nbytes(), tensor)  # a live tensor keeps its address
        return tensor

    embedding = model.get_input_embeddings().weight
    inputs = {
        name: torch.zeros(1, length, embedding.shape[-1], dtype=embedding.dtype, device="meta")
        for name, length in lengths.items()
    }
    was_training = model.training
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FusedAttention():
        output = model(**inputs)
    model.train(was_training)
    del output
    return sum(size for size, _ in kept.values())


def find_micro_batch_size(try_step: Callable[[int], None], batch_size: int, estimate: Callable[[int], int]) -> int:
    """Halve `batch_size` until a training step over the longest rows fits into memory.

    Where a device shares the machine's memory, running out of it ends the process or swaps: sizes whose estimate does
    not fit are not tried.

    Raises:
        RunFailed: not even one row fits.
    """
    size = batch_size
    device = chosen_device()
    if shares_memory(device):
        size = estimated_micro_batch_size(batch_size, estimate, available_memory())
    while True:
        try:
            try_step(size)
            return size
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise RunFailed(
                    "out-of-memory",
                    "not even one sequence fits into memory",
                    hint="Lower data.max_length, set train.gradient_checkpointing=true, or use a smaller base.",
                ) from error
        empty_cache(device)
        size = -(-size // 2)


def estimated_micro_batch_size(batch_size: int, estimate: Callable[[int], int], available: int) -> int:
    """Halve `batch_size` until its estimate fits into `available` bytes, or until it is 1."""
    size = batch_size
    while size > 1 and estimate(size) > available * _SAFE_SHARE:
        size = -(-size // 2)
    return size


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
