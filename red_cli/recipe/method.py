"""The methods a recipe may name, and the options of the baselines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from red_cli.edit.config import Position, pattern_that_compiles
from red_cli.recipe.section import Count, Dropout, Positive, Section

MethodName = Literal["red", "full", "head", "bitfit", "lora", "ia3"]


class Lora(Section):
    """LoRA (arXiv 2106.09685), by PEFT."""

    rank: Count = Field(default=8, description="Rank of the two matrices.")
    alpha: Positive = Field(default=16.0, description="Their product is scaled by alpha / rank.")
    dropout: Dropout = Field(default=0.0, description="Dropout of what they read.")
    positions: list[Position] | None = Field(
        default=None, min_length=1, description="Projections to adapt; default: query and value, or qkv where fused."
    )
    target_modules: str | None = Field(
        default=None, description="A regular expression over whole module paths, instead of positions."
    )

    @field_validator("target_modules")
    @classmethod
    def _pattern_compiles(cls, pattern: str | None) -> str | None:
        return pattern_that_compiles(pattern)


class Ia3(Section):
    """IA3 (arXiv 2205.05638), by PEFT."""

    positions: list[Position] | None = Field(
        default=None,
        min_length=1,
        description="What is scaled: outputs of projections, of ffn the input; default: key (or qkv), value and ffn.",
    )
