"""Which tensors of a base's files an adapter's edits belong to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from red_cli.base_model.files import BaseFiles
from red_cli.edit.architectures import facts_of
from red_cli.errors import UserError

# How norms of the first checkpoints are named; loading renames them.
_WEIGHT_NAMES = {"weight": "bias", "gamma": "beta"}


def as_loaded(name: str) -> str:
    """A tensor's name in files as loading renames it."""
    module, _, kind = name.rpartition(".")
    renamed = {"gamma": "weight", "beta": "bias"}.get(kind)
    return name if renamed is None else f"{module}.{renamed}"


@dataclass(frozen=True)
class Place:
    """An edited module in a base's files.

    Attributes:
        path: in the model.
        module: in the files.
        weight, bias: names of its tensors; the bias's where it has one.
    """

    path: str
    module: str
    weight: str
    bias: str | None


@dataclass(frozen=True)
class Places:
    """Where all edits belong.

    Attributes:
        prefix: what names in the files lack, in the model's names: "" or the base's own, such as "bert.".
    """

    places: list[Place]
    prefix: str

    @property
    def lacking(self) -> list[str]:
        """Paths of the modules without a bias."""
        return list(dict.fromkeys(place.path for place in self.places if place.bias is None))

    @property
    def tensors(self) -> list[str]:
        """Names of the tensors that an edit may change."""
        return [name for place in self.places for name in (place.weight, place.bias) if name is not None]


def find_places(base: BaseFiles, paths: Iterable[str]) -> Places:
    """Find the modules `paths` of a model in its files.

    A checkpoint may have been saved with or without its task's head: then names begin with the base's prefix
    ("bert.encoder…") or do not, and loading accepts both.

    Raises:
        UserError: a module is in none of the files.
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
            return Places([_place(base, path, weights[module]) for path in paths for module in found[path]], prefix)
    missing = next(path for path in paths if not _matching(patterns[path], weights))
    tied = base.config.get("tie_word_embeddings") and missing.endswith("lm_head")
    if tied:
        raise UserError(f"{missing} shares its weight with the embeddings: an edit of it cannot be folded")
    raise UserError(
        f"{base.folder} holds no weight of {missing}, which the adapter edits",
        hint="The adapter belongs to another base.",
    )


def _pattern(model_type: str, path: str) -> str:
    """A regular expression over paths in files of the modules that the model's module `path` is made of."""
    for end, in_files in facts_of(model_type).in_files.items():
        if match := re.fullmatch(rf"((?:.*\.)?){end}", path):
            return re.escape(match[1]) + in_files.replace("LAYER", match[2])
    return re.escape(path)


def _matching(pattern: str, modules: Iterable[str]) -> list[str]:
    compiled = re.compile(pattern)
    return [module for module in modules if compiled.fullmatch(module)]


def _place(base: BaseFiles, path: str, weight: str) -> Place:
    module, _, kind = weight.rpartition(".")
    bias = f"{module}.{_WEIGHT_NAMES[kind]}"
    return Place(path, module, weight, bias if bias in base.tensors else None)
