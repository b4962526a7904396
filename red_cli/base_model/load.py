"""Load a base's weights, or build its skeleton without them."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from red_cli.base_model.base_dtype import base_dtype
from red_cli.base_model.base_files import BIASES_KEY
from red_cli.base_model.hub import require_model_folder
from red_cli.distributed.parameter_chunks import Sharding, keeping_chunks, restore, tie_chunks
from red_cli.edit.model_kinds import ModelKind
from red_cli.edit.trained_head import POOLER, head_parameter_names
from red_cli.errors import UserError, first_line
from red_cli.recipe.schema import HOW_TO_ALLOW
from red_cli.recipe.sections import Model

_T = TypeVar("_T")
_PROBE = "a"

# With this flag, a 4-bit layer of bitsandbytes on a CPU changes at its first evaluation to a layout without training.
_CPU_LAYOUT_FLAG = "support_avx512bf16_for_cpu"


def load_skeleton(config: PretrainedConfig, model: Model, kind: ModelKind) -> PreTrainedModel:
    """Load a base without its weights, on the meta device: enough to find modules and count parameters.

    Raises:
        UserError: the architecture has no model of this kind.
    """
    config = copy.deepcopy(config)  # which gets the recipe's dtype
    with torch.device("meta"):
        try:
            dtype = getattr(torch, base_dtype(model, config).name)
            return kind.auto_class.from_config(config, trust_remote_code=model.trust_remote_code, dtype=dtype)
        except ValueError as error:
            raise UserError("unsupported-model", f"{model.name_or_path}: {first_line(error)}") from None


def load_base(
    model: Model,
    config: PretrainedConfig,
    kind: ModelKind,
    seed: int,
    device: torch.device | None = None,
    sharding: Sharding | None = None,
) -> tuple[PreTrainedModel, list[str]]:
    """Load the weights of a base. Its peak is the base, or this rank's chunk of it, and a tensor.

    Args:
        seed: the seed of the head's initial values.
        device: the device of a quantised base; None for the default device.
        sharding: how the ranks divide the base, of which each then loads its chunk; all ranks call this function.
            None: this process loads all of it.

    Returns:
        The model, and the names of its head's parameters: all outside the base model, and the pooler if the checkpoint
        has no weights for it. A language model has no head.

    Raises:
        UserError: the model or its weights do not exist, or the weights are of another architecture.
    """
    if has_own_code(config) and not model.trust_remote_code:
        raise UserError(
            "code-not-allowed",
            f"{model.name_or_path} needs its own modelling file for its biases",
            hint=HOW_TO_ALLOW,
        )
    torch.manual_seed(seed)
    quantization = _quantization(model, config, kind, device)
    chunks = nullcontext() if sharding is None else keeping_chunks(sharding)
    with chunks:
        loaded, info = from_pretrained(
            kind.auto_class.from_pretrained,
            model,
            config=config,
            dtype=getattr(torch, base_dtype(model, config).name),
            output_loading_info=True,
            **quantization,
            ignore_mismatched_sizes=True,  # a head of another task is initialised; other mismatches are refused below
        )
    for module in loaded.modules():
        if hasattr(module, _CPU_LAYOUT_FLAG):
            setattr(module, _CPU_LAYOUT_FLAG, False)
    head = head_parameter_names(loaded)
    fresh = [name for name in sorted(info["missing_keys"]) if name not in head]
    if missing := [name for name in fresh if POOLER not in name.split(".")]:
        raise UserError(
            "file-damaged",
            f"{model.name_or_path}: the weights do not fit a {config.model_type} model: {missing[0]}"
            f" and {len(missing) - 1} more are missing",
        )
    wrong = [name for name, *_ in info["mismatched_keys"] if name not in head]
    if wrong:
        raise UserError(
            "file-damaged",
            f"{model.name_or_path}: {wrong[0]} in the weights has another shape than in its configuration",
        )
    trained = [name for name, _ in loaded.named_parameters() if name in {*head, *fresh}]
    if sharding is not None:
        tie_chunks(loaded, sharding)
        for name in trained:
            restore(loaded.get_parameter(name), sharding)
    return loaded, trained


def _quantization(
    model: Model, config: PretrainedConfig, kind: ModelKind, device: torch.device | None
) -> dict[str, Any]:
    """Options for loading the base in 8 or 4 bits; the head and the output layer are not quantised.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    if model.quantization is None:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "missing-dependency",
            "model.quantization: bitsandbytes is not installed",
            hint="Install it: pip install 'red-finetune[quant]'",
        )
    # With None, the library skips the output layer of a language model
    head = sorted({name.split(".")[0] for name in head_parameter_names(load_skeleton(config, model, kind))}) or None
    dtype = getattr(torch, base_dtype(model, config).name)
    place = {} if device is None or device.type == "cpu" else {"device_map": {"": device}}
    if model.quantization == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=head), **place}
    options = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=head
    )
    return {"quantization_config": options, **place}


def to_device(model: PreTrainedModel, device: torch.device | str) -> None:
    """Load a model on a device: move it there, except a quantised one, which stays where it was loaded."""
    if not getattr(model, "is_quantized", False):
        model.to(device)


def load_config(model: Model) -> PretrainedConfig:
    """Load the base's configuration, unchanged.

    Raises:
        UserError: the configuration cannot be loaded, or it needs code that the user has not allowed.
    """
    config = from_pretrained(AutoConfig.from_pretrained, model)
    for kernel in (getattr(config, f"_{kind}_implementation", None) for kind in ("attn", "experts")):
        if isinstance(kernel, str) and "/" in kernel and not model.trust_remote_code:
            raise UserError(
                "code-not-allowed",
                f"{model.name_or_path} needs code from the Hub, {kernel}, which is not allowed to run",
                hint=HOW_TO_ALLOW,
            )
    return config


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """Load the base's tokenizer.

    Raises:
        UserError: there is no tokenizer, or it cannot encode a text.
    """
    tokenizer = from_pretrained(AutoTokenizer.from_pretrained, model)
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest >= 1:
        raise UserError(
            "unsupported-tokenizer",
            f"model {model.name_or_path}: model_max_length of its tokenizer is {longest!r}, not a number",
        )
    try:
        written = dict(tokenizer(_PROBE))
        usable = all(isinstance(written[name], list) for name in tokenizer.model_input_names)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the tokenizers library is not an Exception
        raise UserError(
            "unsupported-tokenizer", f"model {model.name_or_path}: its tokenizer fails: {first_line(error)}"
        ) from error
    if not usable or "input_ids" not in tokenizer.model_input_names:
        raise UserError(
            "unsupported-tokenizer", f"model {model.name_or_path}: model_input_names of its tokenizer cannot be used"
        )
    return tokenizer


def from_pretrained(load: Callable[..., _T], model: Model, **options: Any) -> _T:
    """Call a `from_pretrained` of transformers for the model of a recipe.

    Raises:
        UserError: the model does not exist, cannot be reached or is damaged, or needs code that is not allowed.
    """
    name = model.name_or_path
    require_model_folder(name)
    try:
        return load(name, revision=model.revision, trust_remote_code=model.trust_remote_code, **options)
    except MemoryError:
        raise
    except Exception as error:  # the libraries raise many kinds of errors
        if not model.trust_remote_code and "trust_remote_code" in str(error):
            raise UserError(
                "code-not-allowed",
                f"{name} needs its own Python code, which is not allowed to run",
                hint=HOW_TO_ALLOW,
            ) from None
        hint = None
        if not Path(name).is_dir():
            hint = "Check the name and the network, or name a local folder: model.name_or_path=<folder>"
        raise UserError("base-not-found", f"model {name}: {first_line(error)}", hint=hint) from error


def has_own_code(config: Any) -> bool:
    """Whether loading the weights of a base with this configuration needs a modelling file written by red."""
    return hasattr(config, BIASES_KEY)
