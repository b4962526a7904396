"""Where an edit's bias can be stored: an existing bias, a config switch, an equivalent LLaMA, or nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from red_cli.edit.architectures import ARCHITECTURES, architecture_of
from red_cli.edit.architectures_as_llama import AsLlama
from red_cli.errors import UserError
from red_cli.export.transformers_classes import build_configuration

LLAMA = "llama"


@dataclass(frozen=True)
class BiasPlacement:
    """The changes to a model that give every edit's bias a parameter.

    Attributes:
        switches: configuration keys that are set to true.
        also_biased: regular expressions for the ends of module paths; the switches give these modules a bias of zeros.
        as_llama: whether the model is written as a LLaMA because its own architecture has no such switch.
    """

    switches: tuple[str, ...] = ()
    also_biased: tuple[str, ...] = ()
    as_llama: bool = False

    @property
    def description(self) -> str:
        """The changes in words, for the model card; empty if only numbers change."""
        turned_on = " and ".join(f"`{key}`" for key in self.switches)
        if self.as_llama:
            biases = f" with {turned_on}" if turned_on else ""
            return f"The model is written as a LLaMA{biases}, which computes the same function."
        return f"The configuration has {turned_on} turned on; biases that nothing was folded into are 0." * bool(
            turned_on
        )


def place_biases(model_type: str, config: Mapping[str, Any], without_bias: Iterable[str]) -> BiasPlacement:
    """Find where the biases of the modules `without_bias` (paths) can be stored.

    Args:
        config: the content of config.json.

    Raises:
        UserError: the architecture has no place for one of them; the hint names the alternatives.
    """
    without_bias = list(without_bias)
    if not without_bias:
        return BiasPlacement()
    switches, llama = architecture_of(model_type).bias_switches, architecture_of(model_type).as_llama
    unplaced = [path for path in without_bias if _switch_of(path, switches) is None]
    if not unplaced:
        used = {_switch_of(path, switches) for path in without_bias}
        return BiasPlacement(
            switches=tuple(sorted({switches[pattern] for pattern in used if pattern})),
            also_biased=tuple(pattern for pattern, key in switches.items() if key in {switches[p] for p in used if p}),
        )
    if llama is None:
        raise _no_place(f"a {model_type} model has no place for a bias at {unplaced[0]}")
    if (obstacle := llama.obstacle(config)) is not None:
        raise _no_place(
            f"a {model_type} model has no place for a bias at {unplaced[0]}, nor can it be a LLaMA: {obstacle}"
        )
    return _place_in_llama(llama, without_bias)


def place_in_llama(model_type: str, config: Mapping[str, Any], without_bias: Iterable[str]) -> BiasPlacement:
    """The placement of biases in a model to be written as a LLaMA, whatever edits it has.

    Raises:
        UserError: no LLaMA computes the same; the hint names the alternatives.
    """
    if model_type == LLAMA:
        return place_biases(model_type, config, without_bias)
    llama = architecture_of(model_type).as_llama
    obstacle = "its layers differ" if llama is None else llama.obstacle(config)
    if llama is None or obstacle is not None:
        known = ", ".join([LLAMA, *(name for name, row in ARCHITECTURES.items() if row.as_llama)])
        raise UserError(
            "unsupported-model",
            f"a {model_type} model cannot be written as a LLaMA: {obstacle}; those that can: {known}",
            hint="Export ordinary weights (--format merged), and try llama.cpp's own convert_hf_to_gguf.py on them.",
        )
    return _place_in_llama(llama, list(without_bias))


def _place_in_llama(llama: AsLlama, without_bias: list[str]) -> BiasPlacement:
    """Where the biases of modules are stored in the equivalent LLaMA of an architecture."""
    patterns = ARCHITECTURES[LLAMA].bias_switches
    llama_paths = [_path_in_llama(path, llama.split) for path in without_bias]
    wanted = {patterns[pattern] for path in llama_paths if (pattern := _switch_of(path, patterns))} | set(llama.always)
    return BiasPlacement(
        switches=tuple(sorted(wanted)),
        also_biased=tuple(pattern for pattern, key in patterns.items() if key in wanted),
        as_llama=True,
    )


def _path_in_llama(path: str, split: Mapping[str, tuple[str, ...]]) -> str:
    """The placement of a bias by LLaMA's names; for a fused projection, at its first part."""
    parent, dot, last = path.rpartition(".")
    return f"{parent}{dot}{split[last][0] if last in split else last}"


def _no_place(message: str) -> UserError:
    """The error for an edit whose bias has no place in the exported model."""
    return UserError(
        "unsupported-model",
        message,
        hint="Keep it as an adapter (--format adapter), train with red.components=[scale], which folds everywhere, or "
        "export with --format code: a model with its own code, for transformers alone (trust_remote_code=True).",
    )


def _switch_of(path: str, switches: Mapping[str, str]) -> str | None:
    """The switch of biases in `switches` that matches the end of a module's path, or None."""
    return next((pattern for pattern in switches if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", path)), None)


def llama_config(config: Mapping[str, Any], placement: BiasPlacement) -> dict[str, Any]:
    """The configuration that places biases in a LLaMA as `placement` says, for the model with `config`."""
    from transformers import LlamaConfig

    source = build_configuration(dict(config))
    known = LlamaConfig().to_dict()
    kept = {key: getattr(source, key) for key in known if hasattr(source, key) and key != "model_type"}
    biases = {key: key in placement.switches for key in ("attention_bias", "mlp_bias")}
    llama = LlamaConfig(**{**kept, **biases}).to_dict()
    kind = [name.replace(type(source).__name__.removesuffix("Config"), "Llama") for name in source.architectures or []]
    return {**llama, "architectures": kind}
