"""Architectures that are equivalent to a LLaMA: the conditions, and how to split fused projections.

Keys that config.json does not have take the default of the architecture's configuration class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AsLlama:
    """How an architecture converts to LLaMA.

    Attributes:
        obstacle: configuration -> why a LLaMA would compute something else, or None.
        always: keys of LLaMA's configuration to set, since the architecture always has these biases.
        split: fused projection -> the projections that its rows belong to, in order.
    """

    obstacle: Callable[[Mapping[str, Any]], str | None]
    always: tuple[str, ...] = ()
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _window(config: Mapping[str, Any], default: int | None) -> str | None:
    window = config.get("sliding_window", default)
    most = config.get("max_position_embeddings")
    if window is None or (most is not None and window >= most):
        return None
    return f"its attention reaches back only {window} tokens (sliding_window)"


def _qwen2_window(config: Mapping[str, Any]) -> str | None:
    if "sliding_attention" in (config.get("layer_types") or ()) or config.get("use_sliding_window", False):
        return _window(config, 4096)
    return None


def _phi3(config: Mapping[str, Any]) -> str | None:
    parameters = config.get("rope_parameters") or {}
    share = config.get("partial_rotary_factor") or parameters.get("partial_rotary_factor") or 1.0
    return _window(config, None) or (None if share == 1.0 else f"only {share:.0%} of a head is rotated")


MISTRAL = AsLlama(lambda config: _window(config, 4096))
QWEN2 = AsLlama(_qwen2_window, always=("attention_bias",))
PHI3 = AsLlama(_phi3, split={"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")})
