"""Compiled layers: in the steps of a run, each repeated layer of the base is one graph of torch.compile.

Only `forward` of a layer is compiled: hooks on the layer itself, such as FSDP's and those of stored states, stay
outside. Layers of one class share graphs. Passes without gradients, those of evaluations among them, run the layers
as they are: scores are those of `red eval`, and no further graphs are made for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from red_cli.edit.repeated_layers import blocks, replace_forward
from red_cli.errors import first_line
from red_cli.plan.schedule import COMPILE
from red_cli.train.session import Session

# A layer takes a few forms: with and without a mask, with and without gradients of its input, a single row or token
_MOST_FORMS = 32
# Dropout takes the random numbers that it takes without compilation
_OPTIONS: dict[str, Any] = {"backend": "inductor", "options": {"fallback_random": True}}


@contextmanager
def compiled_layers(session: Session) -> Iterator[None]:
    """Inside the block, passes that train run compiled layers, if the recipe says so.

    The model gets no other modules, names or parameters, and afterwards its layers are as before.
    """
    if not session.settings.compile or session.schedule.uncompiled is not None:
        yield
        return
    from torch import compiler

    layers = _Layers(session.listener.note)
    try:
        with _settings(), ExitStack() as undo:
            for block in blocks(session.model):
                layers.compile(block, undo)
            yield
    finally:
        compiler.reset()  # the graphs refer to the model


@contextmanager
def _settings() -> Iterator[None]:
    """Inside the block, torch shares a graph only between layers that are alike, and makes it whole or not at all."""
    from torch._dynamo import config as tracing
    from torch._functorch import config as autograd

    # Layers with edits have hooks, and others of their class have none. By default torch does not look at hooks, nor at
    # anything in layers of FSDP, and would run an edited layer by the graph of one without edits.
    guards = {"skip_nnmodule_hook_guards": False, "skip_fsdp_guards": False}
    later: list[tuple[Any, dict[str, Any]]] = [  # settings that the earliest torch does not have
        # More forms than torch's usual 8
        (tracing, {"recompile_limit": _MOST_FORMS}),
        # A backward graph that cannot be made is known while the layer can still run as it is
        (autograd, {"force_non_lazy_backward_lowering": True}),
    ]
    with ExitStack() as stack:
        stack.enter_context(tracing.patch(guards))
        for config, values in later:
            if all(hasattr(config, name) for name in values):
                stack.enter_context(config.patch(values))
        yield


class _Layers:
    """The compiled layers of a model, and which of them run as they are all the same.

    Args:
        note: shows a line to the user.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._given_up: set[type[nn.Module]] = set()
        self._noted: set[str] = set()

    def compile(self, block: nn.Module, undo: ExitStack) -> None:
        """Have a layer run as one graph in passes with gradients; `undo` restores it."""
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        real, kind = block.forward, type(block)
        # One graph or none: torch would say nothing of a layer that it compiles in parts, or no longer
        graph = torch.compile(real, dynamic=True, fullgraph=True, **_OPTIONS)

        @functools.wraps(real)
        def forward(*inputs: Any, **named: Any) -> Any:
            if kind in self._given_up or not torch.is_grad_enabled():
                return real(*inputs, **named)
            try:
                return graph(*inputs, **named)
            except FailOnRecompileLimitHit:  # other forms still have their graphs
                self._say(f"{COMPILE}: {kind.__name__} takes too many forms, and runs some of them as it is")
            except TorchDynamoException as error:
                self._given_up.add(kind)
                reason = getattr(error, "inner_exception", error)  # the compiler's own words
                self._say(f"{COMPILE} has no effect on {kind.__name__}: {first_line(reason)}")
            return real(*inputs, **named)

        replace_forward(block, forward, undo)

    def _say(self, line: str) -> None:
        """Show a line of the layers once."""
        if line not in self._noted:
            self._noted.add(line)
            self._note(f"{line}.")
