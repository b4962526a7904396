"""RED itself: two vectors after each edited module."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from red_cli.edit.attach import DEFAULT, attach, require_attachment
from red_cli.edit.attached_adapters import active_adapter, count, edits
from red_cli.edit.config import RedConfig
from red_cli.edit.load_adapters import load_adapter, load_adapter_weights, save_adapter
from red_cli.edit.recorded_base import BaseDigest
from red_cli.methods.method import Method, Rates, Trained


def trained_red(model: PreTrainedModel) -> Trained:
    """The trainable parameters of a model with edits: the active adapter's vectors and head."""
    adapter, name = active_adapter(model), require_attachment(model).selection.active
    vectors = {f"{path}.red.{name}.{kind}": kind for path, edit in edits(model) for kind, _ in edit.named_parameters()}
    return Trained(
        model,
        modules=list(adapter.paths),
        method_parameters=list(vectors),
        head=list(adapter.head),
        base_size=count(model).base,
        no_decay={
            key for key, kind in vectors.items() if kind == "scale"
        },  # their neutral value is 1, and decay pulls to 0
        module_of_bias={key: key.rpartition(".red.")[0] for key, kind in vectors.items() if kind == "bias"},
    )


def attach_red(model: PreTrainedModel, config: RedConfig, head: list[str], name: str = DEFAULT) -> Trained:
    """Attach RED's vectors to the model as the adapter `name`, and make the head trainable."""
    attach(model, config, name, train_head=head)
    return trained_red(model)


def _save(trained: Trained, folder: Path, config: RedConfig, revision: str | None, digest: BaseDigest | None) -> None:
    """Save RED's vectors and the head as an adapter folder."""
    save_adapter(trained.model, folder, base_revision=revision, base_digest=digest)


def _load(model: PreTrainedModel, folder: Path) -> Trained:
    """Load a saved RED adapter into the model."""
    load_adapter(model, folder)
    return trained_red(model)


METHOD = Method(
    attach_red,
    _save,
    _load,
    load_weights=lambda trained, folder: load_adapter_weights(trained.model, folder),
    rates=Rates(1e-3, 1e-1, usual=2e-2, below_edge=3.0),
    # Edits in the same layer add up, and so does their noise.
    rates_of_several=Rates(1e-3, 1e-1, usual=1e-2, below_edge=4.5),
)
