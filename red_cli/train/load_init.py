"""Load the trained parameters of another run into a model that starts its training from them."""

from __future__ import annotations

from red_cli.edit.adapter_config import AdapterConfig
from red_cli.edit.recorded_base import BaseDigest, require_same_base
from red_cli.errors import UserError
from red_cli.formatting import some_of
from red_cli.methods.attach_save_load import load_trained_weights
from red_cli.methods.method import Trained
from red_cli.recipe.schema import Recipe
from red_cli.runs.inputs import changed_base
from red_cli.train.init_from import init_adapter, init_description


def load_init(trained: Trained, recipe: Recipe, digest: BaseDigest | None) -> None:
    """Copy the trained parameters of `train.init_from` into a model with the recipe's method attached.

    Args:
        digest: the digest of the base now.

    Raises:
        UserError: the base changed; the modules, the head or the label names differ; or a file is damaged.
    """
    assert recipe.train.init_from is not None
    adapter = init_adapter(recipe.train.init_from)
    what = f"train.init_from: {adapter}"
    description = init_description(adapter)
    require_same_base(trained.model, description, adapter)
    modules = description.target_modules if isinstance(description, AdapterConfig) else trained.modules
    if differing := sorted({*modules} ^ {*trained.modules}):
        raise UserError("base-mismatch", f"{what} edits other modules than this recipe: {some_of(differing)}")
    if differing := sorted({*description.head} ^ {*trained.head}):
        raise UserError("base-mismatch", f"{what} has another head than this recipe: {some_of(differing)}")
    names = trained.model.config.id2label
    labels = [str(names[index]) for index in sorted(names)]
    if trained.head and description.label_names != labels:
        before = ", ".join(description.label_names or ["none"])
        raise UserError(
            "labels-mismatch",
            f"{what} was trained on the labels {before}, the data have {', '.join(labels)}",
            hint="Give data with the same labels, or train without train.init_from.",
        )
    if changed := changed_base(description.base_digest, digest):
        raise UserError("base-changed", f"{what} was trained before {' and '.join(changed)}")
    load_trained_weights(trained, recipe, adapter)
