"""Record a run's base, and check later that the base is unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from red_cli.base_model.digest import base_digest, changed_parts, file_digest, sampled_digest
from red_cli.base_model.edited_modules import find_edited_modules
from red_cli.base_model.files import read_base
from red_cli.base_model.hub import cached_folder, commit_of
from red_cli.edit.adapter_config import BaseDigest
from red_cli.errors import UserError
from red_cli.files import read_json
from red_cli.recipe.methods import METHODS, MethodName
from red_cli.recipe.schema import Model

_ORIGINAL_BASE = "Name the original base: model.name_or_path=FOLDER, or model.revision for one from the Hub."


@dataclass(frozen=True)
class BaseRecord:
    """A base's revision on the Hub and the digest of its content; None where unknown."""

    revision: str | None
    digest: BaseDigest | None


def base_files(name: str, revision: str | None) -> Path | None:
    """The folder of a base: the local folder, or the snapshot in the Hub's cache; None if there is neither."""
    return Path(name) if Path(name).is_dir() else cached_folder(name, revision)


def record_base(model: Model, method: MethodName, paths: list[str]) -> BaseRecord:
    """Record the base `model` of a run with `method`. The base has been loaded before, so no network is used.

    The digest has fewer parts for a base that edits cannot be folded into (8-bit weights, an old pickle).

    Args:
        paths: paths of the modules that RED edits.
    """
    name, revision = model.name_or_path, model.revision
    folder = base_files(name, revision)
    if folder is None:
        return BaseRecord(revision, None)
    revision = commit_of(folder) or revision
    config = read_json(folder / "config.json")
    files = file_digest(folder, config if isinstance(config, dict) else {})
    if METHODS[method].base_parameters == "all":  # the trained files hold every parameter
        return BaseRecord(revision, files)
    try:
        base = read_base(name, folder)
    except UserError:
        return BaseRecord(revision, files)
    try:
        digest = base_digest(base, find_edited_modules(base, paths)) if METHODS[method].edits else sampled_digest(base)
    except UserError:
        digest = sampled_digest(base)
    return BaseRecord(revision, digest)


def require_unchanged_base(
    name: str, revision: str | None, then: BaseDigest | None, trained: Path, hint: str = _ORIGINAL_BASE
) -> None:
    """Check that a base is unchanged since `trained` was trained on it, if its files are available.

    Args:
        then: the digest recorded by the training; None (files of version 0.1) skips the check.
        hint: how the user can give the original base.

    Raises:
        UserError: the configuration, weights or tokenizer have changed; the message names which.
    """
    folder = None if then is None else base_files(name, revision)
    if then is None or folder is None:
        return
    if changed := changed_parts(name, folder, then):
        raise UserError(
            "base-changed",
            f"the {' and the '.join(changed)} of {name} changed since {trained} was trained on it",
            hint=hint,
        )
