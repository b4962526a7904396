"""RED itself, as a method beside the others."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from red_cli.edit.adapter import load_adapter, load_adapter_weights, save_adapter
from red_cli.edit.adapter_config import BaseDigest
from red_cli.edit.attachment import active_adapter
from red_cli.edit.config import RedConfig
from red_cli.edit.model import attach, count, edits, require_attachment, train_head
from red_cli.methods.trained import Trained


def attach_red(model: PreTrainedModel, config: RedConfig, head: list[str]) -> Trained:
    """Two vectors after each module that `config` names."""
    attach(model, config)
    train_head(model, head)
    return trained_red(model)


def trained_red(model: PreTrainedModel) -> Trained:
    """What trains on a model that has edits: the active adapter's vectors and its head."""
    adapter, name = active_adapter(model), require_attachment(model).selection.active
    vectors = {f"{path}.red.{name}.{kind}": kind for path, edit in edits(model) for kind, _ in edit.named_parameters()}
    return Trained(
        model,
        modules=list(adapter.paths),
        part=list(vectors),
        head=list(adapter.head),
        base_size=count(model).base,
        spared={key for key, kind in vectors.items() if kind == "scale"},  # decay would pull them to 0, not to 1
    )


def save_red(
    trained: Trained, folder: Path, config: RedConfig, revision: str | None, digest: BaseDigest | None
) -> None:
    """Write an adapter folder."""
    save_adapter(trained.model, folder, base_revision=revision, base_digest=digest)


def load_red(model: PreTrainedModel, folder: Path) -> Trained:
    """Attach the adapter in `folder`."""
    load_adapter(model, folder)
    return trained_red(model)


def load_red_weights(trained: Trained, folder: Path) -> None:
    """Copy an adapter's tensors into the vectors and head that are there."""
    load_adapter_weights(trained.model, folder)
