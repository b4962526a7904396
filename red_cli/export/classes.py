"""Look up classes of transformers by the names in a base's or an adapter's files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from red_cli.base_model.files import BaseFiles
from red_cli.edit.adapter_config import AdapterConfig
from red_cli.errors import UserError, first_line
from red_cli.export.shared_recipe import without_local_paths

# The end of a class's name -> the auto class of transformers that loads it
_AUTO_CLASSES = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
}

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_NAMES_OF_KERNELS = ("attn_implementation", "experts_implementation")  # may name code on the Hub


def require_known(name: str) -> None:
    """Check that transformers exports `name`, without loading torch.

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

    require_known(name)
    found = getattr(transformers, name)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise UserError(
            "unsupported-model",
            f"{name} is not a model class of transformers",
            hint="Share the adapter: --format adapter",
        )
    return found


def configuration(content: dict[str, Any]) -> PretrainedConfig:
    """Build the exported model's configuration class from the content of a config.json. Its code does not run.

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


def exported_config(base: BaseFiles, adapter: AdapterConfig, dtype: str | None) -> dict[str, Any]:
    """The base's configuration with the exported class, its labels and the dtype.

    Args:
        dtype: torch's name of the dtype, if it was changed.
    """
    config = {key: value for key, value in without_local_paths(base.config).items() if key != "auto_map"}
    names = adapter.label_names
    if names is not None:
        config["id2label"] = {str(index): name for index, name in enumerate(names)}
        config["label2id"] = {name: index for index, name in enumerate(names)}
    if adapter.head:
        one = names is not None and len(names) == 1
        config["problem_type"] = "regression" if one else "single_label_classification"
        config["pad_token_id"] = _padding(base)  # a decoder's head reads the last token before padding
    if adapter.architecture is not None:
        config["architectures"] = [adapter.architecture]
    if dtype is not None:
        config.pop("torch_dtype", None)  # the key's name before transformers 5
        config["dtype"] = dtype
    return config


def _padding(base: BaseFiles) -> int | None:
    """The padding id used in training; the configuration's if the tokenizer cannot be loaded."""
    from transformers import AutoTokenizer

    from red_cli.base_model.prepare import usable_padding_id

    own: int | None = base.config.get("pad_token_id")
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except Exception:  # missing or damaged; the libraries raise many kinds of error
        return own
    return usable_padding_id(tokenizer, base.config.get("vocab_size", math.inf))
