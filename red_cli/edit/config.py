"""The configuration of the edit: the recipe's `red` section and part of an adapter's configuration."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from red_cli.errors import one_line, shown
from red_cli.limits import LimitReached, limited

Position = Literal["ffn", "attn", "query", "key", "value", "qkv", "ffn_norm", "attn_norm"]
Component = Literal["scale", "bias"]

# RED++ of the paper: these, or the fused projection if the architecture has one
PLUS_PLUS: tuple[Position, ...] = ("ffn", "attn", "query", "key", "value", "qkv")

_RANGE = re.compile(r"([0-9]{0,9}):([0-9]{0,9})")
_LONGEST_PATTERN = 50_000  # characters; longer than a list of every module of a large model


def pattern_that_compiles(pattern: str | None) -> str | None:
    """Check a regular expression of the edit's configuration and return it.

    Raises:
        ValueError: it is invalid, or takes too long to compile.
    """
    if pattern is None:
        return None
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"a regular expression of at most {_LONGEST_PATTERN:,} characters")
    try:
        with limited():
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, LimitReached) as error:
        raise ValueError(f"a regular expression ({one_line(str(error))})") from None
    return pattern


class RedConfig(BaseModel):
    """Which modules are edited, and by which of the two vectors.

    The edit of one module with output h in R^d is  h' = scale * h + bias  (equation 3 of arXiv 2402.15179),
    scale and bias in R^d, the same at every token.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    positions: Annotated[list[Position], Field(min_length=1)] | Literal["red++"] = Field(
        default=["ffn"],
        description="Outputs to edit in each layer: ffn (the paper's RED), attn, query, key, value, qkv (if fused), "
        "ffn_norm or attn_norm (after residual and LayerNorm); red++: ffn, attn and either query, key and value or "
        "qkv, depending on the architecture.",
    )
    components: list[Component] = Field(
        default=["scale", "bias"], min_length=1, description="The trainable vectors: both or either."
    )
    layers: str | list[int] = Field(
        default="all", description='Layers to edit: "all", a range such as "8:" or "2:6", or a list of numbers from 0.'
    )
    target_modules: str | None = Field(
        default=None,
        description="A regular expression that matches full module paths, instead of positions; layers still applies, "
        "by the first number in a path.",
    )

    @field_validator("positions", "components")
    @classmethod
    def _no_repeats(cls, names: list[str] | str) -> list[str] | str:
        if not isinstance(names, str) and len(set(names)) != len(names):
            raise ValueError("each name once")
        return names

    @field_validator("layers")
    @classmethod
    def _layers_parse(cls, layers: str | list[int]) -> str | list[int]:
        if isinstance(layers, str) and layers != "all" and not (_RANGE.fullmatch(layers) and layers != ":"):
            raise ValueError('"all", a range such as "8:" or "2:6", or a list of layer numbers')
        if isinstance(layers, list) and (not layers or min(layers) < 0):
            raise ValueError("a list of layer numbers from 0")
        return layers

    @field_validator("target_modules")
    @classmethod
    def _pattern_compiles(cls, pattern: str | None) -> str | None:
        return pattern_that_compiles(pattern)

    def wanted_layers(self, available: set[int]) -> set[int]:
        """The layers of `available` that this configuration names.

        Raises:
            ValueError: the model does not have a named layer, or no layer remains.
        """
        if self.layers == "all":
            return available
        if isinstance(self.layers, list):
            wanted = set(self.layers)
        else:
            match = _RANGE.fullmatch(self.layers)
            assert match is not None
            start, stop = int(match[1] or 0), int(match[2] or max(available) + 1)
            wanted = set(range(start, min(stop, max(available) + 2)))  # one missing layer suffices for the error
        if not wanted or not wanted <= available:
            raise ValueError(
                f"layers: {shown(self.layers)} is not within the model's layers {min(available)} to {max(available)}"
            )
        return wanted
