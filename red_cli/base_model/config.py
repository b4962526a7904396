"""The configuration of a base, as its files have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from transformers import AutoConfig, PretrainedConfig

from red_cli.base_model.files import BIASES_KEY
from red_cli.base_model.hub import require_model_folder
from red_cli.errors import UserError, first_line
from red_cli.recipe.schema import HOW_TO_ALLOW, Model

_T = TypeVar("_T")


def load_config(model: Model) -> PretrainedConfig:
    """The base's configuration as it is.

    Raises:
        UserError: no such model, no network, not a configuration, or code is needed that has not been allowed to run.
    """
    config = from_pretrained(AutoConfig.from_pretrained, model)
    for kernel in (getattr(config, f"_{kind}_implementation", None) for kind in ("attn", "experts")):
        if isinstance(kernel, str) and "/" in kernel and not model.trust_remote_code:
            raise UserError(
                f"{model.name_or_path} computes by code from the Hub, {kernel}, which has not been allowed to run",
                hint=HOW_TO_ALLOW,
            )
    return config


def has_own_code(config: Any) -> bool:
    """Whether a configuration belongs to a model with a modelling file of ours."""
    return hasattr(config, BIASES_KEY)


def from_pretrained(load: Callable[..., _T], model: Model, **options: Any) -> _T:
    """What a `from_pretrained` of transformers makes of a recipe's model.

    Raises:
        UserError: no such model, no network, damaged files, or code is needed that has not been allowed to run.
    """
    name = model.name_or_path
    require_model_folder(name)
    try:
        return load(name, revision=model.revision, trust_remote_code=model.trust_remote_code, **options)
    except MemoryError:
        raise
    except Exception as error:  # from a missing file to a damaged one, the libraries raise a dozen kinds
        if not model.trust_remote_code and "trust_remote_code" in str(error):
            raise UserError(
                f"{name} comes with Python code of its own, which has not been allowed to run", hint=HOW_TO_ALLOW
            ) from None
        hint = None
        if not Path(name).is_dir():
            hint = "Check the name and the network, or give a local model folder: model.name_or_path=<folder>"
        raise UserError(f"model {name}: {first_line(error)}", hint=hint) from error
