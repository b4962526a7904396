"""Position -> modules: the one table that knows the names inside each architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from red_cli.edit.config import RedConfig
from red_cli.errors import UserError


@dataclass(frozen=True)
class Architecture:
    """What must be known of a model type.

    Attributes:
        positions: position -> regular expression over the end of a module's path; group 1 is the layer's number.
        bias_switch: the configuration key that gives the edited projections a bias where checkpoints have none,
            so that an edit's bias can be folded into them.
    """

    positions: Mapping[str, str]
    bias_switch: str | None = None


_BERT = Architecture({"ffn": r"encoder\.layer\.(\d+)\.output\.dense"})

# model_type of the configuration -> architecture
ARCHITECTURES: dict[str, Architecture] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "deberta-v2": _BERT,
    "distilbert": Architecture({"ffn": r"transformer\.layer\.(\d+)\.ffn\.lin2"}),
    "modernbert": Architecture({"ffn": r"layers\.(\d+)\.mlp\.Wo"}, bias_switch="mlp_bias"),
}


@dataclass(frozen=True)
class Target:
    """A module to edit: its path in the model and the width d of its output."""

    path: str
    width: int


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


def find_targets(model: PreTrainedModel, config: RedConfig) -> list[Target]:
    """The modules of `model` that `config` names, in the model's order.

    Raises:
        UserError: an unknown architecture without `target_modules`, a position, layer or pattern that matches nothing,
            a matched module whose output width is not known.
    """
    modules = dict(model.named_modules())
    if config.target_modules is not None:
        paths = [path for path in modules if path and re.fullmatch(config.target_modules, path)]
        if not paths:
            raise UserError(
                f"red.target_modules matches no module: {config.target_modules}", hint=_suggestion(model, modules)
            )
    else:
        paths = _paths_of_positions(model, config, modules)
    targets = []
    for path in paths:
        width = output_width(modules[path])
        if width is None:
            kind = type(modules[path]).__name__
            raise UserError(f"{path} ({kind}) cannot be edited: the width of its output is not known")
        targets.append(Target(path, width))
    return targets


def _paths_of_positions(model: PreTrainedModel, config: RedConfig, modules: Mapping[str, nn.Module]) -> list[str]:
    model_type = model.config.model_type
    architecture = ARCHITECTURES.get(model_type)
    if architecture is None:
        raise UserError(f"architecture {model_type!r} is not known", hint=_suggestion(model, modules))
    chosen: set[str] = set()
    for position in config.positions:
        pattern = re.compile(r"(?:.*\.)?" + architecture.positions[position])
        layer_of = {path: int(match[1]) for path in modules if (match := pattern.fullmatch(path))}
        if not layer_of:
            raise UserError(f"position {position!r} matches no module of this {model_type} model")
        try:
            layers = config.wanted_layers(set(layer_of.values()))
        except ValueError as error:
            raise UserError(f"red.{error}") from None
        chosen.update(path for path, layer in layer_of.items() if layer in layers)
    return [path for path in modules if path in chosen]


def _suggestion(model: PreTrainedModel, modules: Mapping[str, nn.Module]) -> str:
    patterns = look_like_ffn_outputs(model, modules)
    if not patterns:
        return "Name the modules to edit with red.target_modules=<regular expression over module paths>."
    listed = "\n".join(f"  {pattern}" for pattern in patterns)
    example = patterns[0].replace("\\", "\\\\")
    return f"These look like FFN outputs:\n{listed}\nName one: 'red.target_modules=\"{example}\"'"


def look_like_ffn_outputs(model: PreTrainedModel, modules: Mapping[str, nn.Module]) -> list[str]:
    """Patterns of modules in repeated blocks that project from a wider space back to the model's width."""
    width = getattr(model.config, "hidden_size", None)
    patterns = []
    for path, module in modules.items():
        size = {nn.Linear: ("in_features", "out_features"), Conv1D: ("nx", "nf")}.get(type(module))
        if size is None or not re.search(r"\.\d+\.", path):
            continue
        inner, outer = (getattr(module, name) for name in size)
        if inner > outer and width in (None, outer):
            patterns.append(re.sub(r"(?<=\\\.)\d+(?=\\\.)", r"\\d+", re.escape(path)))
    return list(dict.fromkeys(patterns))
