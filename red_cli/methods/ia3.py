"""IA3 (arXiv 2205.05638), from PEFT."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from red_cli.edit.config import Position
from red_cli.methods.method import Rates
from red_cli.methods.peft_adapters import paths_at, peft_method, stored_by_columns
from red_cli.recipe.methods import Ia3

_USUAL: tuple[Position, ...] = ("key", "value", "ffn")  # the authors' choice


def _config(model: PreTrainedModel, options: Ia3) -> Any:
    """Scale the outputs of attention projections and the inputs of FFN outputs (section 3.3 of the paper)."""
    from peft import IA3Config

    paths = paths_at(model, options.positions, _USUAL, "ia3")
    with_ffn = options.positions is None or "ffn" in options.positions
    feedforward = paths_at(model, ["ffn"], _USUAL, "ia3") if with_ffn else []
    return IA3Config(
        target_modules=paths,
        feedforward_modules=[path for path in paths if path in set(feedforward)],
        fan_in_fan_out=stored_by_columns(model, paths),
    )


# The vectors start at 1, and weight decay would pull them to 0.
METHOD = peft_method("ia3", _config, Rates(1e-3, 1e-1, usual=1e-2), no_decay=set)
