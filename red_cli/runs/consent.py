"""Consent to run Python code of a model. Only the user can give it, never a folder that is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from red_cli.errors import UserError
from red_cli.recipe.load import load_recipe_to_apply, load_recorded_recipe_to_apply
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.schema import ALLOW_CODE, ALLOW_CODE_KEY, HOW_TO_ALLOW, Recipe
from red_cli.recipe.sections import Model


@dataclass(frozen=True)
class OpenedRecipe:
    """The recipe of an opened folder, and whether the user gave consent to run the base's code.

    Attributes:
        recipe: the recipe; `model.trust_remote_code` is true only if the user set it.
        asks: the file that sets it without the user's consent, or None.
    """

    recipe: Recipe
    asks: Path | None = None

    def require_consent(self, model: Model) -> None:
        """Check that the folder does not ask to run code of `model`.

        Raises:
            UserError: it does, and the model has code. Without the code another class would give other results.
        """
        if self.asks is not None and has_code(model):
            raise UserError(
                "code-not-allowed",
                f"{self.asks} asks to run Python code of {model.name_or_path}; only you can allow that",
                hint=HOW_TO_ALLOW,
            )


def recipe_with_consent(named: str | None, found: Path | None, overrides: Sequence[str]) -> OpenedRecipe:
    """Load the recipe that the user `named`, or else the one `found`, with the user's consent to run code.

    Args:
        found: may be None if `named` is given.

    Raises:
        UserError: the recipe cannot be used.
    """
    if named is not None:
        return OpenedRecipe(load_recipe_to_apply(named, overrides).recipe)
    assert found is not None
    asked = load_recorded_recipe_to_apply(found, overrides).recipe
    recipe = load_recorded_recipe_to_apply(found, [f"{ALLOW_CODE_KEY}=false", *overrides]).recipe
    asks = asked.model.trust_remote_code and not recipe.model.trust_remote_code
    return OpenedRecipe(recipe, found if asks else None)


def is_consent(override: str) -> bool:
    """Whether `override` sets only the consent to run code."""
    return {named.key for named in named_keys([override])} == {ALLOW_CODE_KEY}


def consent_of(recipe: Recipe) -> list[str]:
    """The overrides that repeat the consent in a recipe that the user named."""
    return [ALLOW_CODE] if recipe.model.trust_remote_code else []


def has_code(model: Model) -> bool:
    """Whether a model refers to Python code of its own, which needs the user's consent. The code is not run."""
    from transformers import PretrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        config, _ = PretrainedConfig.get_config_dict(model.name_or_path, revision=model.revision)
        tokenizer = get_tokenizer_config(model.name_or_path, revision=model.revision)
    except (OSError, ValueError):  # no such model; loading it reports that
        return False
    return any("auto_map" in content for content in (config, tokenizer))
