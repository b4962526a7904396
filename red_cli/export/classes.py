"""Classes of transformers, by the names that files of a base or an adapter give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from red_cli.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_NAMES_OF_KERNELS = ("attn_implementation", "experts_implementation")  # may be of code on the Hub


def require_known(name: str) -> None:
    """Check that transformers has something of that name, without loading torch.

    Raises:
        UserError: it has not.
    """
    import transformers

    if name not in transformers.__all__:  # dir() takes a sixth of a second to make its list
        raise UserError(
            "unsupported-model", f"{name} is not a class of transformers", hint="Share the adapter: --format adapter"
        )


def model_class(name: str) -> type[PreTrainedModel]:
    """The class of models called `name`.

    Raises:
        UserError: transformers has none.
    """
    import transformers

    require_known(name)
    found = getattr(transformers, name)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise UserError(
            "unsupported-model",
            f"{name} is not a class of models in transformers",
            hint="Share the adapter: --format adapter",
        )
    return found


def configuration(content: dict[str, Any]) -> PretrainedConfig:
    """The configuration that the content of a config.json gives; code that it refers to does not run.

    Raises:
        UserError: transformers has no such model type, or a value does not fit it.
    """
    from transformers import AutoConfig

    plain = {key: value for key, value in content.items() if key not in _NAMES_OF_KERNELS}
    try:
        return AutoConfig.for_model(**plain)
    except Exception as error:  # each model type checks its values in its own way
        raise UserError(
            "unsupported-model", f"not a configuration that transformers can use: {first_line(error)}"
        ) from None
