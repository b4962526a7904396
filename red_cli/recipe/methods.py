"""The methods of fine-tuning: properties that are known before anything is loaded, and the sections of their options.

A method is its name in `MethodName`, its row in `METHODS`, a field of `MethodChoice` if it has options, and
`red_cli/methods/<name>.py`, which attaches, saves and loads it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from red_cli.edit.config import Position, RedConfig, pattern_that_compiles
from red_cli.errors import UserError
from red_cli.recipe.roles import V0_2, Role
from red_cli.recipe.sections import Count, Dropout, Positive, Section

_PLUS_PLUS = ({"ffn", "attn", "query", "key", "value"}, {"ffn", "attn", "qkv"})

MethodName = Literal["red", "full", "head", "bitfit", "lora", "ia3"]
OptionFaults = list[tuple[str, str]]  # (key within the method's section, what is wrong)


class Lora(Section):
    """LoRA (arXiv 2106.09685), by PEFT."""

    rank: Count = Field(default=8, description="Rank of the two matrices.")
    alpha: Positive = Field(default=16.0, description="The update is scaled by alpha / rank.")
    dropout: Dropout = Field(default=0.0, description="Dropout on the input of the update.")
    positions: list[Position] | None = Field(
        default=None, min_length=1, description="Projections to adapt; default: query and value, or qkv if fused."
    )
    target_modules: str | None = Field(
        default=None, description="A regular expression that matches full module paths, instead of positions."
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
        description="Modules to scale: projections by output, ffn by input; default: key (or qkv), value and ffn.",
    )


def _both_places(options: Lora) -> OptionFaults:
    """The fault of a method's options that give both positions and target_modules."""
    if options.positions is None or options.target_modules is None:
        return []
    return [("target_modules", "give lora.positions or lora.target_modules, not both")]


def _unused_positions(options: RedConfig) -> OptionFaults:
    """The fault of RED's options that set positions to no effect, since target_modules is given."""
    if options.target_modules is None or options.positions == RedConfig().positions:
        return []
    return [("positions", "has no effect: red.target_modules names the modules")]


@dataclass(frozen=True)
class MethodSpec:
    """Properties of a method that are known before anything is loaded.

    Attributes:
        title: its name in tables and figures.
        what_trains: a description of the trainable parameters.
        options: the class of the recipe section of the same name; None if it has no options.
        base_parameters: how many of the base's own parameters it trains. These must be float32 and unquantised.
        only_head: whether it trains only the head.
        edits: whether it trains RED's edits, which `red export` folds, `red chat` switches off and `red report`
            draws, and which the paper's figures describe.
        relative_rate: its usual learning rate with train.rates: relative, the same for every base (docs/results.md);
            None if its rates are absolute.
        package: the import name of the package that it needs; `extra` installs it.
        variants: further names in comparisons -> the keys that they set.
        contradictions: options -> the keys that contradict each other.
        unused: options -> the keys that have no effect because of others.
    """

    title: str
    what_trains: str
    options: type[BaseModel] | None = None
    base_parameters: Literal["none", "some", "all"] = "none"
    only_head: bool = False
    edits: bool = False
    relative_rate: float | None = None
    package: str | None = None
    extra: str | None = None
    variants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    contradictions: Callable[[Any], OptionFaults] = lambda options: []
    unused: Callable[[Any], OptionFaults] = lambda options: []

    @property
    def word(self) -> str:
        """The adjective for its parameters in messages."""
        return "edited" if self.edits else "trained"


METHODS: dict[MethodName, MethodSpec] = {
    "red": MethodSpec(
        "RED",
        "two vectors after each edited module",
        options=RedConfig,
        edits=True,
        relative_rate=5e-2,
        variants={"red++": ("red.positions=red++",)},
        unused=_unused_positions,
    ),
    "full": MethodSpec("full fine-tuning", "every parameter of the base", base_parameters="all"),
    "head": MethodSpec("linear probe", "the head alone", only_head=True),
    "bitfit": MethodSpec("BitFit", "every bias of the base", base_parameters="some"),
    "lora": MethodSpec(
        "LoRA",
        "a low-rank update of each adapted weight",
        options=Lora,
        package="peft",
        extra="baselines",
        contradictions=_both_places,
    ),
    "ia3": MethodSpec(
        "IA3",
        "a vector of factors at each adapted module",
        options=Ia3,
        package="peft",
        extra="baselines",
    ),
}
_EXTRAS = {spec.extra: [name for name in METHODS if METHODS[name].extra == spec.extra] for spec in METHODS.values()}
_NEEDED = "; ".join(f"{', '.join(names)}: extra {extra}" for extra, names in _EXTRAS.items() if extra)


class MethodChoice(Section):
    """The recipe keys that choose the method, and a section for each method that has options."""

    method: Annotated[MethodName, Role.METHOD, V0_2] = Field(
        default="red", description=f"The method: RED, or one to compare it with ({_NEEDED})."
    )
    red: Annotated[RedConfig, Role.OPTIONS] = Field(default_factory=RedConfig)
    lora: Annotated[Lora | None, Role.OPTIONS, V0_2] = Field(default=None, description="Options of method lora.")
    ia3: Annotated[Ia3 | None, Role.OPTIONS, V0_2] = Field(default=None, description="Options of method ia3.")

    @property
    def method_spec(self) -> MethodSpec:
        """The properties of the chosen method."""
        return METHODS[self.method]

    @property
    def options(self) -> Any:
        """The options of the chosen method, or None if it has none."""
        return self.options_of(self.method)

    def options_of(self, method: MethodName) -> Any:
        """The options of a method, or None if it has none or none are set."""
        return getattr(self, method, None)

    @model_validator(mode="after")
    def _options_of_the_method(self) -> MethodChoice:
        if self.method_spec.options is not None and self.options is None:
            setattr(self, self.method, self.method_spec.options())
        return self


def compared_methods() -> dict[str, list[str]]:
    """Name of a method of `METHODS`, or of a variant of one -> the overrides that select it."""
    compared: dict[str, list[str]] = {}
    for name, spec in METHODS.items():
        variants = {variant: [f"method={name}", *keys] for variant, keys in spec.variants.items()}
        compared |= {name: [f"method={name}"], **variants}
    return compared


def require_method_package(name: MethodName) -> None:
    """Check, before anything is loaded, that the package that a fine-tuning method needs is installed.

    Raises:
        UserError: it is not installed.
    """
    spec = METHODS[name]
    if spec.package is not None and importlib.util.find_spec(spec.package) is None:
        raise UserError(
            "missing-dependency",
            f"method {name}: {spec.package} is not installed",
            hint=f"Install it: pip install 'red-finetune[{spec.extra}]'",
        )


def is_plus_plus(positions: Sequence[str] | str) -> bool:
    """Whether these positions, an option of the method RED, are those of its variant RED++."""
    return positions == "red++" or set(positions) in _PLUS_PLUS
