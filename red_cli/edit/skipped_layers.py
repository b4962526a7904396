"""Run a model without its leading layers: hidden states that were computed before take the place of their output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from red_cli.edit.repeated_layers import replace_forward


@dataclass(frozen=True)
class Prefix:
    """The leading layers of a model that can be skipped.

    Attributes:
        blocks: the layers, in their order.
        computed: how many of them run all the same: 1 where the first layer also returns a tensor that those after it
            need, as T5's does with the biases of relative positions.
        rest: what the layers return after the hidden states; None if they return the hidden states alone.
    """

    blocks: list[nn.Module]
    computed: int = 0
    rest: tuple[Any, ...] | None = None

    @property
    def skipped(self) -> int:
        """How many layers do not run."""
        return len(self.blocks) - self.computed

    @classmethod
    def ways(cls, blocks: list[nn.Module], output: Any) -> list[Prefix]:
        """The ways in which these layers can be skipped, the cheapest first, by what the first of them returned.

        Whether later layers need a tensor that it returned shows only in what the model computes.
        """
        if isinstance(output, Tensor):
            return [cls(blocks)]
        rest = tuple(None if isinstance(value, Tensor) else value for value in output[1:])
        found = [cls(blocks, 0, rest)]
        if len(blocks) > 1 and any(isinstance(value, Tensor) for value in output[1:]):
            found.append(cls(blocks, 1, rest))
        return found


class _Reached(Exception):
    """Ends a forward pass of which nothing more is needed."""


def output_of(block: nn.Module, forward: Callable[[], object]) -> Any:
    """What a layer returns in a forward pass, which ends there and skips the layers after it."""
    found: list[Any] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found.append(output)
        raise _Reached

    handle = block.register_forward_hook(keep)
    try:
        forward()
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


def hidden_states(output: Any) -> Tensor:
    """The hidden states in what a layer returned, (rows, length, width)."""
    return output if isinstance(output, Tensor) else output[0]


@contextmanager
def skipped_layers(prefix: Prefix, states: Tensor) -> Iterator[None]:
    """Inside the block the layers of the prefix do not run, and the last of them returns `states`.

    The model itself makes masks, positions and all else that later layers receive. A pass over inputs of another shape
    runs all layers.

    Args:
        states: (rows, length, width), the hidden states that leave the prefix.
    """
    rest: list[tuple[Any, ...] | None] = [prefix.rest]

    def keep_rest(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        rest[0] = tuple(output[1:])

    with ExitStack() as undo:
        for block in prefix.blocks[: prefix.computed]:
            undo.callback(block.register_forward_hook(keep_rest).remove)
        for block in prefix.blocks[prefix.computed :]:
            _replace_forward(block, states if block is prefix.blocks[-1] else None, states.shape[:2], rest, undo)
        yield


def _replace_forward(
    block: nn.Module,
    states: Tensor | None,
    shape: Sequence[int],
    rest: list[tuple[Any, ...] | None],
    undo: ExitStack,
) -> None:
    """Have a skipped layer return `states`, or its input if they are None; `undo` restores it."""
    real = block.forward

    def forward(*inputs: Any, **named: Any) -> Any:
        given: Tensor = inputs[0] if inputs else named["hidden_states"]
        if tuple(given.shape[:2]) != tuple(shape):
            return real(*inputs, **named)
        found = given if states is None else states
        return found if rest[0] is None else (found, *rest[0])

    replace_forward(block, forward, undo)
