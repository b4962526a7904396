"""How a model makes logits from the states that enter its output layer, found while the model runs.

Some models scale, cap or shift the output of that layer. What they compute after it is recorded in a forward pass, and
repeated for other states, so that their logits cost the output layer alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# What may be repeated: functions of each position by itself that change none of their arguments
_REPEATED = {"add", "sub", "mul", "div", "tanh", "to", "float", "bfloat16", "half", "contiguous"}
# Read off a tensor, or hooks on its gradient
_READ = {"__get__", "size", "dim", "numel", "is_floating_point", "is_complex", "register_hook"}


@dataclass(frozen=True)
class _Place:
    """Stands for the output of a recorded step, counted from that of the output layer, which is 0."""

    number: int


@dataclass(frozen=True)
class _Step:
    """A recorded call, in whose arguments places stand for tensors that earlier steps computed."""

    function: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def repeat(self, found: list[Tensor]) -> Tensor:
        def given(value: Any) -> Any:
            return found[value.number] if isinstance(value, _Place) else value

        arguments = [given(value) for value in self.arguments]
        return self.function(*arguments, **{name: given(value) for name, value in self.options.items()})


@dataclass(frozen=True)
class OutputLayer:
    """A model's output layer and what the model computes after it.

    Attributes:
        module: the layer.
        steps: what follows; the last one gives the logits.
        autocast: makes the context of mixed precision in which the model calls the layer.
    """

    module: nn.Module
    steps: tuple[_Step, ...]
    autocast: Callable[[], AbstractContextManager[Any]]

    def logits(self, states: Tensor) -> Tensor:
        """The model's logits (positions, vocabulary) for the layer's input states (positions, width)."""
        with self.autocast():
            found = [self.module(states.unsqueeze(0))]
            for step in self.steps:
                found.append(step.repeat(found))
        return found[-1].flatten(0, -2)


def logits_and_layer(
    model: nn.Module, inner: Any, inputs: dict[str, Tensor], swap: Callable[[Tensor], Tensor]
) -> tuple[Tensor, OutputLayer | None]:
    """Run a model with `swap(states)` (positions, width) instead of the input states of its output layer.

    The second result is None where only the model itself can make further logits: it does something after its output
    layer that is not known to treat each position by itself, or ZeRO-3 partitions the layer.

    Args:
        inner: the transformers model in `model`, or `model` itself.

    Returns:
        The logits (positions, vocabulary), and the output layer.
    """
    module = inner.get_output_embeddings()
    recorders: list[_Recorder] = []
    steps: list[tuple[_Step, ...] | None] = []

    def before(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (swap(arguments[0]).unsqueeze(0), *arguments[1:])

    def after(_: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        recorders.append(_Recorder(output, _current_autocast(output.device.type)))
        recorders[-1].__enter__()

    def end(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        # What wraps the model may add steps of its own: DistributedDataParallel returns a copy
        steps.append(recorders[0].steps_to(output.logits) if len(recorders) == 1 else None)

    handles = (
        module.register_forward_pre_hook(before, prepend=True),
        module.register_forward_hook(after),
        inner.register_forward_hook(end),
    )
    try:
        logits = model(**inputs, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
        for recorder in reversed(recorders):
            recorder.__exit__(None, None, None)
    partitioned = any(hasattr(parameter, "ds_id") for parameter in module.parameters())
    found = steps[-1]
    layer = None if found is None or partitioned else OutputLayer(module, found, recorders[0].autocast)
    return logits.flatten(0, -2), layer


class _Recorder(TorchFunctionMode):
    """While it is entered, records what is computed from the output of an output layer.

    Attributes:
        autocast: makes the context of mixed precision in which the layer was called.
    """

    def __init__(self, output: Tensor, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.autocast = autocast
        self._tensors = [output]
        self._steps: list[_Step] = []
        self._known = True

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        output = function(*args, **options)
        given, named = tuple(map(self._placed, args)), {name: self._placed(value) for name, value in options.items()}
        if any(isinstance(value, _Place) for value in (*given, *named.values())):
            name = getattr(function, "__name__", "")
            if name in _REPEATED and all(map(_serves_any_position, (*given, *named.values()))):
                if isinstance(self._placed(output), Tensor):  # else a conversion that had nothing to do
                    self._tensors.append(output)
                    self._steps.append(_Step(function, given, named))
            elif name not in _READ:
                self._known = False
        return output

    def _placed(self, value: Any) -> Any:
        for number, tensor in enumerate(self._tensors):
            if value is tensor:
                return _Place(number)
        return value

    def steps_to(self, logits: Tensor) -> tuple[_Step, ...] | None:
        """The steps from the layer's output to `logits`; None if they are not known."""
        end = self._placed(logits)
        return tuple(self._steps[: end.number]) if self._known and isinstance(end, _Place) else None


def _serves_any_position(value: Any) -> bool:
    """Whether an argument of a recorded step is the same for all positions."""
    return not isinstance(value, Tensor) or value.numel() == (value.shape[-1] if value.dim() else 1)


def _current_autocast(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context of mixed precision that a recorder sees on devices of a kind."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype, enabled)
