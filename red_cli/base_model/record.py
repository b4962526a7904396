"""What a run records of its base, and whether a base is still the one that was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from red_cli.base_model.digest import base_digest, changed_parts, file_digest, sampled_digest
from red_cli.base_model.files import read_base
from red_cli.base_model.hub import cached_folder, commit_of
from red_cli.base_model.tensors import find_places
from red_cli.edit.adapter_config import BaseDigest
from red_cli.errors import UserError
from red_cli.files import read_json
from red_cli.recipe.methods import METHODS, MethodName
from red_cli.recipe.schema import Model

_AS_IT_WAS = "Give the base as it was: model.name_or_path=FOLDER, or model.revision for one from the Hub."


@dataclass(frozen=True)
class BaseRecord:
    """A base's version on the Hub and the digest of its content; None where that is not known."""

    revision: str | None
    digest: BaseDigest | None


def base_files(name: str, revision: str | None) -> Path | None:
    """The folder of a base, as far as it is at hand: a local one, or the snapshot in the Hub's cache."""
    return Path(name) if Path(name).is_dir() else cached_folder(name, revision)


def record_base(model: Model, method: MethodName, paths: list[str]) -> BaseRecord:
    """Record the base `model`, on which `method` trains; it has been loaded, so no network is used.

    A base whose files cannot be folded into (8-bit weights, an old pickle) trains all the same; its digest has less.

    Args:
        paths: of the modules that RED edits.
    """
    name, revision = model.name_or_path, model.revision
    folder = base_files(name, revision)
    if folder is None:
        return BaseRecord(revision, None)
    revision = commit_of(folder) or revision
    config = read_json(folder / "config.json")
    files = file_digest(folder, config if isinstance(config, dict) else {})
    if METHODS[method].base_parameters == "all":  # files of the method hold every parameter: the base's do not count
        return BaseRecord(revision, files)
    try:
        base = read_base(name, folder)
    except UserError:
        return BaseRecord(revision, files)
    try:
        digest = base_digest(base, find_places(base, paths)) if METHODS[method].edits else sampled_digest(base)
    except UserError:
        digest = sampled_digest(base)
    return BaseRecord(revision, digest)


def require_unchanged_base(
    name: str, revision: str | None, then: BaseDigest | None, trained: Path, hint: str = _AS_IT_WAS
) -> None:
    """Make sure that a base holds what it held when `trained` was trained on it, as far as its files are at hand.

    Args:
        then: the digest of that time; None in files of version 0.1, which are not compared.
        hint: how to give the base as it was.

    Raises:
        UserError: its configuration, weights or tokenizer have changed; the message names which.
    """
    folder = None if then is None else base_files(name, revision)
    if then is None or folder is None:
        return
    if changed := changed_parts(name, folder, then):
        raise UserError(
            f"the {' and the '.join(changed)} of {name} changed since {trained} was trained on it",
            hint=hint,
        )
