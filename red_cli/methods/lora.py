"""LoRA (arXiv 2106.09685), from PEFT."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from red_cli.edit.config import RedConfig
from red_cli.methods.method import Rates
from red_cli.methods.peft_adapters import paths_at, paths_of, peft_method, stored_by_columns
from red_cli.recipe.methods import Lora


def _config(model: PreTrainedModel, options: Lora) -> Any:
    """The PEFT configuration of LoRA for a model: rank, alpha, dropout and the modules it adapts."""
    from peft import LoraConfig

    if options.target_modules is not None:
        paths = paths_of(model, RedConfig(target_modules=options.target_modules), "lora")
    else:
        paths = paths_at(model, options.positions, ("query", "value"), "lora")  # the authors' choice
    return LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=paths,
        fan_in_fan_out=stored_by_columns(model, paths),
    )  # fmt: skip


METHOD = peft_method("lora", _config, Rates(1e-4, 1e-2, usual=2e-3, below_edge=5.0))
