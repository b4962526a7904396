"""Run a model over whole inputs, without the cache that a decoder keeps for the next token."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

_OPTION = "use_cache"


def output_without_cache(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """What a model computes from `inputs`, without a key/value cache; for passes that no further token follows.

    Decoders make a cache by default. It holds the keys and values of every layer until the output
    is gone, and the number by which a layer finds its place there makes a compiled graph of each layer another one.

    Args:
        model: a transformers model, or what wraps it for several processes.
        inputs: its tensors by name, (rows, …).
    """
    kind: Any = type(getattr(model, "module", model))
    options = {_OPTION: False} if _takes_option(kind) else {}
    return model(**inputs, **options)


@cache
def _takes_option(kind: type[nn.Module]) -> bool:
    """Whether the forward pass of a class takes the option: encoders have none, and some classes set it themselves.

    A forward pass with further options of any name hands them to that of the class that it extends.
    """
    for known in kind.__mro__:
        if "forward" not in vars(known):
            continue
        parameters = inspect.signature(vars(known)["forward"]).parameters
        if _OPTION in parameters:
            return True
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return False
    return False
