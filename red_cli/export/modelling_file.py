"""Models with their own modelling file, for architectures that have no place for an edit's bias."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from red_cli.base_model.base_files import BIASES_KEY, BaseFiles
from red_cli.base_model.edited_modules import EditedModules
from red_cli.export.transformers_classes import auto_class

MODELLING_FILE = "modeling_red.py"
_PREFIX = "Red"  # of the class in the modelling file
_MATRIX = 2
_SOURCE = '''"""{architecture} with a bias after some modules, trained by Representation EDiting (arXiv 2402.15179)."""

import torch
from torch import nn
from transformers import {architecture}


def _add_bias(module, inputs, output):
    return output + module.red_bias


class Red{architecture}({architecture}):
    """The base, plus the biases in `red_biases` of its configuration: module path -> [parameter, width]."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        for path, (name, width) in config.red_biases.items():
            module = self.get_submodule(path)
            module.register_parameter(name, nn.Parameter(torch.zeros(width)))
            if name == "red_bias":
                module.register_forward_hook(_add_bias)
'''


def modelling_file(architecture: str) -> str:
    """The text of the modelling file for a base class of transformers."""
    return _SOURCE.format(architecture=architecture)


def bias_names(base: BaseFiles, edited: EditedModules) -> dict[str, str]:
    """Path of each module without a bias -> the name of its new one in the written modelling code."""
    names = {}
    for module in edited.modules:
        if module.bias is None:
            same = module.module.rpartition(".")[2] == module.path.rpartition(".")[2]
            projection = same and len(base.tensors[module.weight].shape) == _MATRIX
            names[module.path] = "bias" if projection else "red_bias"
    return names


def is_own_code(folder: Path, architecture: str) -> bool:
    """Whether the modelling file in `folder` is exactly the one that `red` writes for the class `architecture`."""
    file = folder / MODELLING_FILE
    return file.is_file() and file.read_text(encoding="utf-8") == modelling_file(architecture.removeprefix(_PREFIX))


def code_config(config: dict[str, Any], architecture: str, biases: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """The configuration with which transformers loads the modelling file, given trust_remote_code=True."""
    own = f"{_PREFIX}{architecture}"
    reference = f"{MODELLING_FILE.removesuffix('.py')}.{own}"
    return {**config, "architectures": [own], "auto_map": {auto_class(architecture): reference}, BIASES_KEY: biases}
