"""Where an edit's bias lives in an ordinary model: in place, in a LLaMA that computes the same, or nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from red_cli.edit.architectures import ARCHITECTURES, architecture_of
from red_cli.errors import UserError
from red_cli.export.classes import configuration

LLAMA = "llama"


@dataclass(frozen=True)
class Home:
    """What must change in a model so that all edits' biases have a place.

    Attributes:
        switches: configuration keys to be turned on.
        siblings: regular expressions over the ends of the paths of modules that then need a bias too: zeros.
        as_llama: whether the model is written as a LLaMA, because its own architecture has no such switch.
    """

    switches: tuple[str, ...] = ()
    siblings: tuple[str, ...] = ()
    as_llama: bool = False

    @property
    def description(self) -> str:
        """What is done, in words for the model card; empty where nothing but numbers changes."""
        turned_on = " and ".join(f"`{key}`" for key in self.switches)
        if self.as_llama:
            return f"The model is written as a LLaMA with {turned_on}, which computes the same function."
        return f"The configuration has {turned_on} turned on; biases that nothing was folded into are 0." * bool(
            turned_on
        )


def find_home(model_type: str, config: Mapping[str, Any], lacking: Iterable[str]) -> Home:
    """The home of a model whose modules `lacking` (paths) gain a bias that they have not had.

    Args:
        config: the content of config.json.

    Raises:
        UserError: the architecture has no place for it, with the reason and the ways out.
    """
    lacking = list(lacking)
    if not lacking:
        return Home()
    switches, llama = architecture_of(model_type).bias_switches, architecture_of(model_type).as_llama
    homeless = [path for path in lacking if _switch_of(path, switches) is None]
    if not homeless:
        used = {_switch_of(path, switches) for path in lacking}
        return Home(
            switches=tuple(sorted({switches[pattern] for pattern in used if pattern})),
            siblings=tuple(pattern for pattern, key in switches.items() if key in {switches[p] for p in used if p}),
        )
    if llama is None:
        raise _no_home(f"a {model_type} model has no place for a bias at {homeless[0]}")
    if (obstacle := llama.obstacle(config)) is not None:
        raise _no_home(
            f"a {model_type} model has no place for a bias at {homeless[0]}, nor can it be a LLaMA: {obstacle}"
        )
    patterns = ARCHITECTURES[LLAMA].bias_switches
    there = [_path_in_llama(path, llama.split) for path in lacking]
    wanted = {patterns[pattern] for path in there if (pattern := _switch_of(path, patterns))} | set(llama.always)
    return Home(
        switches=tuple(sorted(wanted)),
        siblings=tuple(pattern for pattern, key in patterns.items() if key in wanted),
        as_llama=True,
    )


def _path_in_llama(path: str, split: Mapping[str, tuple[str, ...]]) -> str:
    parent, dot, last = path.rpartition(".")
    return f"{parent}{dot}{split[last][0] if last in split else last}"


def _no_home(message: str) -> UserError:
    return UserError(
        "unsupported-model",
        message,
        hint="Keep it as an adapter (--format adapter), train with red.components=[scale], which folds everywhere, or "
        "export with --format code: a model with its own modelling file, loaded with trust_remote_code=True.",
    )


def _switch_of(path: str, switches: Mapping[str, str]) -> str | None:
    """The pattern among `switches` that a module's path ends with."""
    return next((pattern for pattern in switches if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", path)), None)


def llama_config(config: Mapping[str, Any], home: Home) -> dict[str, Any]:
    """The configuration of the LLaMA that computes what the model with `config` does, every key explicit."""
    from transformers import LlamaConfig

    source = configuration(dict(config))
    known = LlamaConfig().to_dict()
    kept = {key: getattr(source, key) for key in known if hasattr(source, key) and key != "model_type"}
    biases = {key: key in home.switches for key in ("attention_bias", "mlp_bias")}
    housed = LlamaConfig(**{**kept, **biases}).to_dict()
    kind = [name.replace(type(source).__name__.removesuffix("Config"), "Llama") for name in source.architectures or []]
    return {**housed, "architectures": kind}
