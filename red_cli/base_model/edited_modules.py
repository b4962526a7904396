"""Map edited modules to their tensors in the base's files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from red_cli.base_model.base_files import BaseFiles
from red_cli.edit.architectures import architecture_of
from red_cli.errors import UserError

# Early checkpoints call a norm's weight gamma and its bias beta; loading renames them.
_WEIGHT_NAMES = {"weight": "bias", "gamma": "beta"}


def as_loaded(name: str) -> str:
    """The name of an edited module's tensor after loading has renamed it."""
    module, _, kind = name.rpartition(".")
    renamed = {"gamma": "weight", "beta": "bias"}.get(kind)
    return name if renamed is None else f"{module}.{renamed}"


@dataclass(frozen=True)
class EditedModule:
    """An edited module and its tensors in the base's files.

    Attributes:
        path: the module's path in the model.
        module: its path in the files.
        weight, bias: tensor names in the files; `bias` is None where the module has none.
    """

    path: str
    module: str
    weight: str
    bias: str | None


@dataclass(frozen=True)
class EditedModules:
    """All edited modules of an adapter.

    Attributes:
        prefix: what the model's parameter names have before the names in the files: "" or, for example, "bert.".
    """

    modules: list[EditedModule]
    prefix: str

    @property
    def without_bias(self) -> list[str]:
        """Paths of the modules without a bias."""
        return list(dict.fromkeys(module.path for module in self.modules if module.bias is None))

    @property
    def tensor_names(self) -> list[str]:
        """Names of the tensors that folding may change."""
        return [name for module in self.modules for name in (module.weight, module.bias) if name is not None]


def find_edited_modules(base: BaseFiles, paths: Iterable[str]) -> EditedModules:
    """Find the modules `paths` of a model in the base's files.

    The names in a checkpoint start with the base's prefix ("bert.encoder…") if it was saved with a head, and without
    it otherwise. Loading accepts both, and so does this function.

    Raises:
        UserError: the files do not hold a module's weight.
    """
    paths = list(paths)
    weights = {name.rpartition(".")[0]: name for name in base.tensors if name.rpartition(".")[2] in _WEIGHT_NAMES}
    first = paths[0].split(".")[0]
    patterns = {path: _pattern(base.model_type, path) for path in paths}
    rules: list[tuple[str, Callable[[str], str]]] = [
        ("", lambda path: patterns[path]),
        (f"{first}.", lambda path: _pattern(base.model_type, path.partition(".")[2])),
        ("", lambda path: rf"\w+\.{patterns[path]}"),
    ]
    for prefix, rule in rules:
        found = {path: _matching(rule(path), weights) for path in paths}
        if all(found.values()):
            return EditedModules(
                [_edited_module(base, path, weights[module]) for path in paths for module in found[path]], prefix
            )
    missing = next(path for path in paths if not _matching(patterns[path], weights))
    tied = base.config.get("tie_word_embeddings") and missing.endswith("lm_head")
    if tied:
        raise UserError(
            "unsupported-model", f"{missing} shares its weight with the embeddings: an edit of it cannot be folded"
        )
    raise UserError(
        "base-mismatch",
        f"{base.folder} holds no weight of {missing}, which the adapter edits",
        hint="The adapter belongs to another base.",
    )


def _pattern(model_type: str, path: str) -> str:
    """The pattern of the edited modules' paths in the tensors of a base."""
    for end, in_files in architecture_of(model_type).in_files.items():
        if match := re.fullmatch(rf"((?:.*\.)?){end}", path):
            return re.escape(match[1]) + in_files.replace("LAYER", match[2])
    return re.escape(path)


def _matching(pattern: str, modules: Iterable[str]) -> list[str]:
    """The stored modules of the base whose whole path matches the pattern of an edited module."""
    compiled = re.compile(pattern)
    return [module for module in modules if compiled.fullmatch(module)]


def _edited_module(base: BaseFiles, path: str, weight: str) -> EditedModule:
    """An edited module with the names of its weight and bias tensors in the base's files."""
    module, _, kind = weight.rpartition(".")
    bias = f"{module}.{_WEIGHT_NAMES[kind]}"
    return EditedModule(path, module, weight, bias if bias in base.tensors else None)
