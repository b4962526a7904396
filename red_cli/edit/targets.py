"""Find the modules that a configuration edits, and the width of their outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.config import PLUS_PLUS, RedConfig
from red_cli.edit.layer import RedEdit
from red_cli.edit.repeated_layers import search_ffn_outputs
from red_cli.errors import UserError, shown
from red_cli.limits import LimitReached, limited


def resolve_positions(config: RedConfig, model_type: str) -> RedConfig:
    """Replace the positions "red++" by the list of those that the architecture has."""
    if config.positions != "red++":
        return config
    architecture = ARCHITECTURES.get(model_type)
    known = PLUS_PLUS if architecture is None else architecture.positions
    return config.model_copy(update={"positions": [name for name in PLUS_PLUS if name in known]})


@dataclass(frozen=True)
class Target:
    """A module to edit: its path and the width d of its output."""

    path: str
    width: int


def find_targets(model: PreTrainedModel, config: RedConfig) -> list[Target]:
    """The modules of `model` that `config` selects, in the model's order.

    Raises:
        UserError: the architecture is unknown and `target_modules` is not set; a position, layer or pattern matches
            nothing; or the output width of a matched module is unknown.
    """
    config = resolve_positions(config, model.config.model_type)
    every = dict(model.named_modules())
    ours = tuple(f"{path}." for path, module in every.items() if isinstance(module, RedEdit))
    modules = {path: module for path, module in every.items() if not f"{path}.".startswith(ours)}
    if config.target_modules is not None:
        try:
            matched = matching(config.target_modules, [path for path in modules if path])
        except ValueError as error:
            raise UserError("unsupported-model", f"red.target_modules: {error}") from None
        paths = _in_layers(matched, config)
        if not paths:
            raise UserError(
                "unsupported-model",
                f"red.target_modules matches no module: {shown(config.target_modules)}",
                hint=_suggestion(model),
            )
    else:
        paths = _paths_of_positions(model, config, modules)
    targets = []
    for path in paths:
        width = output_width(modules[path])
        if width is None and config.target_modules is None:
            width = model.config.get_text_config().hidden_size  # the blocks in the table return hidden states
        if width is None:
            kind = type(modules[path]).__name__
            raise UserError(
                "unsupported-model", f"{path} ({kind}) cannot be edited: it is not a projection or norm of known width"
            )
        targets.append(Target(path, width))
    return targets


def output_width(module: nn.Module) -> int | None:
    """The size of the last dimension of a module's output, or None if the module does not have it.

    The size comes from attributes or a parameter's full shape, never from a weight's local shape: sharded (ZeRO-3)
    weights are empty, and quantised ones are packed.
    """
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, Conv1D):
        return module.nf
    weight = getattr(module, "weight", None)
    if isinstance(weight, nn.Parameter):
        shape = getattr(weight, "ds_shape", weight.shape)
        if len(shape) == 1:  # LayerNorm, RMSNorm
            return shape[0]
    return None


def _paths_of_positions(model: PreTrainedModel, config: RedConfig, modules: Mapping[str, nn.Module]) -> list[str]:
    """The paths of the modules at the positions and layers that a configuration edits."""
    model_type = model.config.model_type
    architecture = ARCHITECTURES.get(model_type)
    if architecture is None:
        raise UserError("unsupported-model", f"architecture {shown(model_type)} is not known", hint=_suggestion(model))
    chosen: set[str] = set()
    assert not isinstance(config.positions, str)
    for position in config.positions:
        end = architecture.positions.get(position)
        pattern = re.compile(rf"(?:.*\.)?{end}")
        layer_of = {path: int(match[1]) for path in modules if end and (match := pattern.fullmatch(path))}
        if not layer_of:
            raise UserError(
                "unsupported-model",
                f"a {model_type} model has no position {shown(position)}",
                hint=f"It has: {', '.join(architecture.positions)}. Set red.positions, or red.target_modules.",
            )
        chosen.update(_of_layers(layer_of, config))
    return [path for path in modules if path in chosen]


def _in_layers(paths: list[str], config: RedConfig) -> list[str]:
    """The `paths` in the wanted layers; a path's layer is the first number in it."""
    if config.layers == "all":
        return paths
    layer_of = {path: int(match[1]) for path in paths if (match := re.search(r"\.(\d+)\.", path))}
    return _of_layers(layer_of, config) if layer_of else []


def _of_layers(layer_of: dict[str, int], config: RedConfig) -> list[str]:
    """The paths of target modules in the layers that a configuration edits."""
    try:
        layers = config.wanted_layers(set(layer_of.values()))
    except ValueError as error:
        raise UserError("unsupported-model", f"red.{error}") from None
    return [path for path, layer in layer_of.items() if layer in layers]


def _suggestion(model: PreTrainedModel) -> str:
    """The hint for a model whose modules to edit are not known: those that look like FFN outputs."""
    found = search_ffn_outputs(model)
    if not found:
        return "Name the modules to edit with red.target_modules=<regular expression over module paths>."
    listed = to_regex(found).replace("|", "\n  ")
    return f"These look like FFN outputs:\n  {listed}\nName them: 'red.target_modules={to_regex(found)}'"


def to_regex(paths: list[str]) -> str:
    """The targets `paths` as one regular expression, which matches them in any layer."""
    patterns = dict.fromkeys(re.sub(r"\\\.\d+(?=\\\.)", r"\\.\\d+", re.escape(path)) for path in paths)
    return "|".join(patterns)


def matching(pattern: str, paths: Iterable[str]) -> list[str]:
    """The `paths` that a regular expression matches in full.

    Raises:
        ValueError: matching takes too long.
    """
    try:
        with limited():
            compiled = re.compile(pattern)
            return [path for path in paths if compiled.fullmatch(path)]
    except LimitReached as error:
        raise ValueError(f"{shown(pattern)} {error} to match; write it without repeats inside repeats") from None
