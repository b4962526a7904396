"""Keys of how texts are generated, and the faults that show between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from red_cli.recipe.section import Count, CountFromZero, KeyFault, Positive, Section


class Decoding(Section):
    """How texts are generated: the options of transformers' GenerationConfig, with its defaults."""

    max_new_tokens: Count | None = Field(
        default=None, description="Most tokens of a text; default: 128, or the longest label with text_to_text."
    )
    min_new_tokens: CountFromZero = Field(default=0, description="Fewest tokens of a text.")
    num_beams: Count = Field(default=1, description="Beam search with so many beams; 1: the likeliest token each time.")
    length_penalty: float = Field(default=1.0, description="Beam search: above 0 favours longer texts, below shorter.")
    early_stopping: bool | Literal["never"] = Field(default=False, description="Beam search: when a text is settled.")
    no_repeat_ngram_size: CountFromZero = Field(default=0, description="No run of so many tokens twice; 0: any.")
    repetition_penalty: Positive = Field(default=1.0, description="Above 1: what was there already is less likely.")
    do_sample: bool = Field(default=False, description="Draw tokens at random, by train.seed.")
    temperature: Positive = Field(default=1.0, description="Sampling: below 1 sharper, above 1 flatter.")
    top_k: CountFromZero = Field(default=50, description="Sampling: among so many tokens; 0: all.")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(default=1.0, description="Sampling: among this share.")


def faults_of_decoding(decoding: Decoding | None, generates: bool) -> list[KeyFault]:
    """Options that have no effect, because of the others."""
    path = ("eval", "generation")
    if decoding is None:
        return []
    if not generates:
        return [(path, "this task's answers are no texts")]
    needs: dict[str, tuple[str, bool]] = {
        "length_penalty": ("num_beams above 1", decoding.num_beams > 1),
        "early_stopping": ("num_beams above 1", decoding.num_beams > 1),
        **dict.fromkeys(("temperature", "top_k", "top_p"), ("do_sample: true", decoding.do_sample)),
    }
    idle = [name for name, (_, met) in needs.items() if not met and getattr(decoding, name) != _default(name)]
    return [((*path, name), f"has an effect only with {needs[name][0]}") for name in idle]


def _default(name: str) -> Any:
    return Decoding.model_fields[name].default
