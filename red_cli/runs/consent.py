"""Python code that comes with a model runs by the user's word alone, never by that of a folder that is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from red_cli.errors import UserError
from red_cli.recipe.load import load_recipe, load_trained_recipe
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.schema import ALLOW_CODE, ALLOW_CODE_KEY, HOW_TO_ALLOW, Model, Recipe


@dataclass(frozen=True)
class OpenedRecipe:
    """The recipe of a folder that is opened.

    Attributes:
        recipe: its `model.trust_remote_code` is true only where the user said so.
        asks: the file that sets it without the user having done so; None where none does.
    """

    recipe: Recipe
    asks: Path | None = None

    def require_consent(self, model: Model) -> None:
        """Refuse a folder that asks for the code of `model` to run, where there is such code.

        Raises:
            UserError: there is. Another class instead of that code would give other figures.
        """
        if self.asks is not None and has_code(model):
            raise UserError(
                "code-not-allowed",
                f"{self.asks} asks to run Python code that comes with {model.name_or_path}; a folder cannot allow that",
                hint=HOW_TO_ALLOW,
            )


def open_recipe(named: str | None, found: Path | None, overrides: Sequence[str]) -> OpenedRecipe:
    """The recipe that the user `named` on the command line, else the one `found` in a folder that is opened.

    Args:
        found: may be None where `named` is not.

    Raises:
        UserError: the recipe cannot be used.
    """
    if named is not None:
        return OpenedRecipe(load_recipe(named, overrides=overrides).recipe)
    assert found is not None
    asked = load_trained_recipe(found, overrides).recipe
    recipe = load_trained_recipe(found, [f"{ALLOW_CODE_KEY}=false", *overrides]).recipe
    asks = asked.model.trust_remote_code and not recipe.model.trust_remote_code
    return OpenedRecipe(recipe, found if asks else None)


def is_consent(override: str) -> bool:
    """Whether `override` allows or forbids code, which changes nothing else of a recipe."""
    return {named.key for named in named_keys([override])} == {ALLOW_CODE_KEY}


def consent_of(recipe: Recipe) -> list[str]:
    """Overrides that pass on the consent in a recipe that the user named."""
    return [ALLOW_CODE] if recipe.model.trust_remote_code else []


def has_code(model: Model) -> bool:
    """Whether a model's configuration or tokenizer refers to Python code of its own; none of it runs."""
    from transformers import PretrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    try:
        config, _ = PretrainedConfig.get_config_dict(model.name_or_path, revision=model.revision)
        tokenizer = get_tokenizer_config(model.name_or_path, revision=model.revision)
    except (OSError, ValueError):  # no such model: loading it says so
        return False
    return any("auto_map" in content for content in (config, tokenizer))
