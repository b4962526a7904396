"""How architectures convert to an equivalent LLaMA, and what keeps one from it."""

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


def _window_obstacle(config: Mapping[str, Any], default: int | None) -> str | None:
    """Why an architecture's sliding window keeps it from being equivalent to a LLaMA; None if it does not."""
    window = config.get("sliding_window", default)
    most = config.get("max_position_embeddings")
    if window is None or (most is not None and window >= most):
        return None
    return f"its attention reaches back only {window} tokens (sliding_window)"


def _qwen2_obstacle(config: Mapping[str, Any]) -> str | None:
    """Why the sliding window of the architecture Qwen2 keeps it from being equivalent to a LLaMA, or None."""
    if "sliding_attention" in (config.get("layer_types") or ()) or config.get("use_sliding_window", False):
        return _window_obstacle(config, 4096)
    return None


def _phi3_obstacle(config: Mapping[str, Any]) -> str | None:
    """Why the architecture Phi-3 is not equivalent to a LLaMA: its window or partial rotation; None if it is."""
    parameters = config.get("rope_parameters") or {}
    share = config.get("partial_rotary_factor") or parameters.get("partial_rotary_factor") or 1.0
    return _window_obstacle(config, None) or (None if share == 1.0 else f"only {share:.0%} of a head is rotated")


def _smollm3_obstacle(config: Mapping[str, Any]) -> str | None:
    """Why the architecture SmolLM3 is not equivalent to a LLaMA: layers without positions, a window; None if it is."""
    interval, count = config.get("no_rope_layer_interval", 4), config["num_hidden_layers"]
    rotated = config.get("no_rope_layers") or [(layer + 1) % interval for layer in range(count)]
    if not all(rotated):
        return "some of its layers have no positions (no_rope_layers)"
    if any(config.get(key) for key in ("attention_bias", "mlp_bias")):
        return "it has biases already"
    return _qwen2_obstacle(config)


MISTRAL = AsLlama(lambda config: _window_obstacle(config, 4096))
QWEN2 = AsLlama(_qwen2_obstacle, always=("attention_bias",))
PHI3 = AsLlama(
    _phi3_obstacle, split={"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
)
SMOLLM3 = AsLlama(_smollm3_obstacle)
