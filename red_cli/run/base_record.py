"""What an adapter records of its base, so that an export can tell whether it is still the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from red_cli.edit.adapter_config import BaseDigest
from red_cli.errors import UserError
from red_cli.export.digest import base_digest
from red_cli.export.hub import cached_folder, commit_of
from red_cli.export.places import find_places
from red_cli.export.source import read_base
from red_cli.recipe.schema import Model


@dataclass(frozen=True)
class BaseRecord:
    """A base's version on the Hub and the digest of its content; None where that is not known."""

    revision: str | None
    digest: BaseDigest | None


def record_base(model: Model, paths: list[str]) -> BaseRecord:
    """Record the base of `model`, whose modules `paths` are edited; it has been loaded, so no network is used.

    A base whose files cannot be folded into (8-bit weights, an old pickle) trains all the same, without a digest; so
    does one that nothing is folded into, `paths` being empty.
    """
    name = model.name_or_path
    folder = Path(name) if Path(name).is_dir() else cached_folder(name, model.revision)
    if folder is None:
        return BaseRecord(model.revision, None)
    revision = commit_of(folder) or model.revision
    if not paths:
        return BaseRecord(revision, None)
    try:
        base = read_base(name, folder)
        return BaseRecord(revision, base_digest(base, find_places(base, paths)))
    except UserError:
        return BaseRecord(revision, None)
