"""Position -> modules of a model, and the width of what each puts out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.config import PLUS_PLUS, RedConfig, matching
from red_cli.edit.layer import RedEdit, Vectors
from red_cli.edit.search import as_pattern, search_ffn_outputs
from red_cli.errors import UserError, shown


def spelled_out(config: RedConfig, model_type: str) -> RedConfig:
    """`config` with the positions of RED++ as a list: those that the architecture has."""
    if config.positions != "red++":
        return config
    architecture = ARCHITECTURES.get(model_type)
    known = PLUS_PLUS if architecture is None else architecture.positions
    return config.model_copy(update={"positions": [name for name in PLUS_PLUS if name in known]})


@dataclass(frozen=True)
class Target:
    """A module to edit: its path in the model and the width d of its output."""

    path: str
    width: int


def find_targets(model: PreTrainedModel, config: RedConfig) -> list[Target]:
    """The modules of `model` that `config` names, in the model's order.

    Raises:
        UserError: an unknown architecture without `target_modules`, a position, layer or pattern that matches nothing,
            a matched module whose output width is not known.
    """
    config = spelled_out(config, model.config.model_type)
    ours = (RedEdit, Vectors)
    modules = {path: module for path, module in model.named_modules() if not isinstance(module, ours)}
    if config.target_modules is not None:
        try:
            matched = matching(config.target_modules, [path for path in modules if path])
        except ValueError as error:
            raise UserError(f"red.target_modules: {error}") from None
        paths = _in_layers(matched, config)
        if not paths:
            raise UserError(
                f"red.target_modules matches no module: {shown(config.target_modules)}", hint=_suggestion(model)
            )
    else:
        paths = _paths_of_positions(model, config, modules)
    targets = []
    for path in paths:
        width = output_width(modules[path])
        if width is None and config.target_modules is None:
            width = model.config.get_text_config().hidden_size  # a block that the table names puts out hidden states
        if width is None:
            kind = type(modules[path]).__name__
            raise UserError(f"{path} ({kind}) cannot be edited: it is no projection or norm of known width")
        targets.append(Target(path, width))
    return targets


def output_width(module: nn.Module) -> int | None:
    """The size of the last dimension of a module's output; None where the module does not tell.

    Read from attributes or a parameter's full shape, never from a weight's local shape: sharded (ZeRO-3) weights are
    empty and quantised ones packed.
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
    model_type = model.config.model_type
    architecture = ARCHITECTURES.get(model_type)
    if architecture is None:
        raise UserError(f"architecture {shown(model_type)} is not known", hint=_suggestion(model))
    chosen: set[str] = set()
    assert not isinstance(config.positions, str)
    for position in config.positions:
        end = architecture.positions.get(position)
        pattern = re.compile(rf"(?:.*\.)?{end}")
        layer_of = {path: int(match[1]) for path in modules if end and (match := pattern.fullmatch(path))}
        if not layer_of:
            raise UserError(
                f"a {model_type} model has no position {shown(position)}",
                hint=f"It has: {', '.join(architecture.positions)}. Set red.positions, or red.target_modules.",
            )
        chosen.update(_of_layers(layer_of, config))
    return [path for path in modules if path in chosen]


def _in_layers(paths: list[str], config: RedConfig) -> list[str]:
    """Those of `paths` that are in the wanted layers, a layer being the first number in a path."""
    if config.layers == "all":
        return paths
    layer_of = {path: int(match[1]) for path in paths if (match := re.search(r"\.(\d+)\.", path))}
    return _of_layers(layer_of, config) if layer_of else []


def _of_layers(layer_of: dict[str, int], config: RedConfig) -> list[str]:
    try:
        layers = config.wanted_layers(set(layer_of.values()))
    except ValueError as error:
        raise UserError(f"red.{error}") from None
    return [path for path, layer in layer_of.items() if layer in layers]


def _suggestion(model: PreTrainedModel) -> str:
    found = search_ffn_outputs(model)
    if not found:
        return "Name the modules to edit with red.target_modules=<regular expression over module paths>."
    listed = as_pattern(found).replace("|", "\n  ")
    return f"These look like FFN outputs:\n  {listed}\nName them: 'red.target_modules={as_pattern(found)}'"
