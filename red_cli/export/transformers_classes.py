"""Look up classes of transformers by the names in a base's or an adapter's files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from red_cli.base_model.base_files import BaseFiles
from red_cli.errors import UserError, first_line
from red_cli.export.adapter_arrays import AdapterArrays

# The end of a class's name -> the auto class of transformers that loads it
_AUTO_CLASSES = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForMultipleChoice": "AutoModelForMultipleChoice",
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
}

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_NAMES_OF_KERNELS = ("attn_implementation", "experts_implementation")  # may name code on the Hub


def require_known_class(name: str) -> None:
    """Check that transformers has the class of a model, without loading torch.

    Raises:
        UserError: it does not.
    """
    import transformers

    if name not in transformers.__all__:  # dir() takes a sixth of a second
        raise UserError(
            "unsupported-model", f"{name} is not a class of transformers", hint="Share the adapter: --format adapter"
        )


def model_class(name: str) -> type[PreTrainedModel]:
    """The class of the exported model, by its name.

    Raises:
        UserError: transformers has no such model class.
    """
    import transformers

    require_known_class(name)
    found = getattr(transformers, name)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise UserError(
            "unsupported-model",
            f"{name} is not a model class of transformers",
            hint="Share the adapter: --format adapter",
        )
    return found


def build_configuration(content: dict[str, Any]) -> PretrainedConfig:
    """Build a configuration of transformers' class from the content of a config.json. Its code does not run.

    Raises:
        UserError: transformers does not know the model type, or a value is invalid.
    """
    from transformers import AutoConfig

    plain = {key: value for key, value in content.items() if key not in _NAMES_OF_KERNELS}
    try:
        return AutoConfig.for_model(**plain)
    except Exception as error:  # each model type raises its own errors
        raise UserError(
            "unsupported-model", f"transformers cannot use this configuration: {first_line(error)}"
        ) from None


def auto_class(architecture: str) -> str:
    """The name of the auto class that loads an exported model's class."""
    return next((auto for end, auto in _AUTO_CLASSES.items() if architecture.endswith(end)), "AutoModel")


def exported_class(base: BaseFiles, adapter: AdapterArrays) -> str:
    """The name of the class that the exported model records. Old adapters do not record it.

    Raises:
        UserError: neither adapter nor base names a class, or transformers does not have it.
    """
    architecture = adapter.config.architecture or base.architecture
    if architecture is None:
        raise UserError(
            "unsupported-model",
            f"neither {adapter.folder} nor {base.folder}/config.json names the class of the model",
        )
    require_known_class(architecture)
    return architecture
