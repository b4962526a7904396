"""The sources of a recipe: read its file and those it extends, resolve their local paths, merge them, keep origins."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from red_cli.errors import UserError, did_you_mean, shown
from red_cli.files import expand_user
from red_cli.recipe.bundled_recipes import is_bundled_name, recipe_folder, recipe_names
from red_cli.recipe.faults import Fault, dotted, origin_of
from red_cli.recipe.roles import LocalPath
from red_cli.recipe.schema import RecipeFile, recipe_keys
from red_cli.recipe.template import is_template_file
from red_cli.recipe.variables import VariableError, expand_name, expand_variables
from red_cli.recipe.yaml_file import Document, KeyPath, read_document


@dataclass
class MergedSources:
    """The merged sources of a recipe.

    Attributes:
        origins: key path -> where the key was set, as messages show it.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def copy(self) -> MergedSources:
        """A copy, to merge more parts into."""
        return MergedSources(copy.deepcopy(self.data), dict(self.origins))

    def merge(self, data: dict[str, Any], where: Callable[[KeyPath], str]) -> None:
        """Merge `data` into this: mappings key by key; any other value replaces the earlier one."""
        self._merge(self.data, copy.deepcopy(data), where, ())

    def _merge(
        self, target: dict[str, Any], data: dict[str, Any], where: Callable[[KeyPath], str], prefix: KeyPath
    ) -> None:
        for key, value in data.items():
            path = (*prefix, key)
            self.origins[path] = where(path)
            if isinstance(value, dict) and isinstance(target.get(key), dict):
                self._merge(target[key], value, where, path)
            else:
                target[key] = value
                self.origins.update({inner: where(inner) for inner in _paths_in(value, path)})

    def origin(self, path: KeyPath) -> str:
        """Where a key was given; for an absent one, its section."""
        return origin_of(path, self.origins)


def _paths_in(value: Any, path: KeyPath) -> list[KeyPath]:
    """The key paths of everything nested in a merged part of a recipe."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [inner for key, part in parts for inner in ((*path, key), *_paths_in(part, (*path, key)))]


def resolve_paths(
    data: dict[str, Any], folder: Path, environment: Mapping[str, str] | None = None
) -> list[tuple[KeyPath, str]]:
    """Make local paths in a part of a recipe absolute, before it is merged; other names stay unchanged.

    Relative paths start at `folder`: that of the recipe file, or the working directory for the command line.

    Args:
        environment: the variables that paths may have; None: dollar signs stand for themselves.

    Returns:
        The faults: (key path, what is wrong).
    """
    faults: list[tuple[KeyPath, str]] = []
    for key in recipe_keys().values():
        if key.local_path is not None:
            section, _, name = key.path.partition(".")
            values = data.get(section)
            if isinstance(values, dict) and isinstance(values.get(name), str):
                try:
                    values[name] = _anchored(values[name], key.local_path, folder, environment)
                except VariableError as error:
                    faults.append(((section, name), str(error)))
    return faults


def _anchored(text: str, kind: LocalPath, folder: Path, environment: Mapping[str, str] | None) -> str:
    """A local path of a recipe that is merged, made absolute from the folder of its file.

    Raises:
        VariableError: a variable in it is not set, or stands in a name.
    """
    if not text.strip() or (kind is LocalPath.OR_TEMPLATE and not is_template_file(text)):
        return text
    if environment is not None and not _is_file_of(folder, text):
        text = (expand_name if kind is LocalPath.OR_HUB_NAME else expand_variables)(text, environment)
    if kind is LocalPath.FROM_HERE:
        return text
    try:
        anchored = (folder / expand_user(text)).resolve()
        hub_name = kind is LocalPath.OR_HUB_NAME and not text.startswith(".") and not anchored.exists()
    except (OSError, ValueError, RuntimeError):  # not a valid path; its reader reports that
        return text
    return text if hub_name else str(anchored)


def _is_file_of(folder: Path, text: str) -> bool:
    """Whether a local path in a source of a recipe exists as it is written, from the folder of that source."""
    try:
        return (folder / text).exists()
    except (OSError, ValueError):  # not a valid path
        return False


_KEY = ("extends",)
# Files next to the recipe of a run, an adapter or an exported model
_OF_A_RECORD = ("environment.json", "metrics.json", "adapter", "adapter_config.json", "config.json")
_OF_EVERY_RECORD = {"learning_rate", "adam_epsilon", "save_total_limit"}  # keys of train, defaults included
_LONGEST = 10  # files that extend one another


@dataclass(frozen=True)
class Source:
    """A recipe file and its content.

    Attributes:
        environment: the variables that its paths may have; None: dollar signs stand for themselves.
    """

    path: Path
    document: Document
    environment: Mapping[str, str] | None = None

    def where(self, key: KeyPath) -> str:
        """The file and line of a key, as messages name it."""
        return f"{self.path}, line {self.document.lines[key]}"

    @property
    def extends(self) -> Path | None:
        """The file that this one extends: a bundled recipe by name, or a path relative to this file's folder.

        Raises:
            UserError: the file does not exist.
        """
        if "extends" not in self.document.data:
            return None
        name = self.document.data["extends"]
        where = f"{self.where(_KEY)}: extends"
        if not isinstance(name, str) or not name or name.startswith("~") or Path(name).is_absolute():
            raise UserError(
                "invalid-value", f"{where}: expected the name of a bundled recipe, or a path relative to this file"
            )
        is_name = is_bundled_name(name)
        path = recipe_folder() / f"{name}.yaml" if is_name else self.path.parent / name
        try:
            found = path.is_file()
        except (OSError, ValueError):  # not a valid path
            found = False
        if not found:
            hint = f"{did_you_mean(name, recipe_names())}All names: red recipes" if is_name else None
            raise UserError(
                "recipe-not-found", f"{where}: no such {'recipe' if is_name else 'file'}: {shown(name)}", hint=hint
            )
        return path


def read_sources(path: Path) -> list[Source]:
    """Read the sources of a recipe: its file, after those that it extends.

    Raises:
        UserError: a file is missing or not a recipe, or the files extend each other in a circle.
    """
    recorded = _is_recorded(path)
    environment = None if recorded else os.environ
    sources = [Source(path, _read(path), environment)]
    seen = {path.resolve()}
    while (base := sources[0].extends) is not None:
        where = f"{sources[0].where(_KEY)}: extends"
        if base.resolve() in seen:
            raise UserError("invalid-value", f"{where}: the recipe extends itself, directly or through others")
        if len(sources) == _LONGEST:
            raise UserError("invalid-value", f"{where}: the chain has more than {_LONGEST} recipes")
        document = _read(base)
        if not document.data.keys() & RecipeFile.model_fields.keys():
            raise UserError("invalid-value", f"{where}: {base} is not a recipe")
        seen.add(base.resolve())
        sources.insert(0, Source(base, document, environment))
    return sources


def _is_recorded(path: Path) -> bool:
    """Whether a recipe file is the record of a run or a model, which may come from elsewhere with its folder."""
    return path.name == "recipe.yaml" and any((path.parent / name).exists() for name in _OF_A_RECORD)


def _read(path: Path) -> Document:
    """Read a source of a recipe, which may be a record."""
    return _with_rates(read_document(path)) if _is_recorded(path) else read_document(path)


def _with_rates(document: Document) -> Document:
    """A recorded recipe as a source. One of version 0.1 has no train.rates: its rates were absolute."""
    train = document.data.get("train")
    if isinstance(train, dict) and train.keys() >= _OF_EVERY_RECORD and "rates" not in train:
        train["rates"] = "absolute"
        document.lines[("train", "rates")] = document.lines[("train",)]
    return document


def read_alone(path: Path) -> list[Source]:
    """Read the recipe of a run or an export, which is complete: nothing is merged into it.

    Raises:
        UserError: it extends another recipe, or is not a recipe.
    """
    source = Source(path, _with_rates(read_document(path)))
    if "extends" in source.document.data:
        raise UserError(
            "invalid-value", f"{source.where(_KEY)}: extends: the recipe of a run or an export cannot extend another"
        )
    return [source]


def merge_sources(sources: list[Source]) -> tuple[MergedSources, list[Fault]]:
    """Merge files, variants included; return the result and the faults of their syntax."""
    merged = MergedSources(origins={(): f"{sources[-1].path}"})
    faults = []
    for source in sources:
        document = source.document
        faults += [
            Fault(f"{source.path}, line {line}", dotted(key), text, "invalid-yaml")
            for line, key, text in document.faults
        ]
        data = {key: value for key, value in document.data.items() if key != "extends"}
        variants = _parts(data.get("variants"))
        for prefix, part in (((), data), *((("variants", name), part) for name, part in variants.items())):
            faults += [
                Fault(source.where((*prefix, *key)), dotted((*prefix, *key)), text)
                for key, text in resolve_paths(part, source.path.parent, source.environment)
            ]
        merged.merge(data, source.where)
    return merged, faults


def _parts(variants: Any) -> dict[str, dict[str, Any]]:
    """The well-formed variants of a recipe file, whose local paths are resolved before files are merged."""
    return (
        {name: part for name, part in variants.items() if isinstance(part, dict)} if isinstance(variants, dict) else {}
    )


def without_launch(sources: list[Source]) -> list[Source]:
    """The sources of a recipe without their sections `launch`: another machine has other devices."""
    return [replace(source, document=_without(source.document, "launch")) for source in sources]


def _without(document: Document, section: str) -> Document:
    """A document of a recipe's source without a section."""
    data = {key: value for key, value in document.data.items() if key != section}
    faults = [fault for fault in document.faults if fault[1][:1] != (section,)]
    return replace(document, data=data, faults=faults)
