"""Load a base's weights, or build its skeleton without them."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from red_cli.base_model.prepare import from_pretrained, has_own_code
from red_cli.edit.kinds import ModelKind
from red_cli.edit.model import head_parameter_names
from red_cli.errors import UserError, first_line
from red_cli.recipe.schema import HOW_TO_ALLOW, Model

_OPTIONAL_MODULE = "pooler"
# With this flag, a 4-bit layer of bitsandbytes on a CPU changes at its first evaluation to a layout without training.
_CPU_LAYOUT_FLAG = "support_avx512bf16_for_cpu"


def skeleton(config: PretrainedConfig, model: Model, kind: ModelKind) -> PreTrainedModel:
    """Build the model without weights, on the meta device: enough to find modules and count parameters.

    Raises:
        UserError: the architecture has no model of this kind.
    """
    with torch.device("meta"):
        try:
            options = {} if model.dtype == "auto" else {"dtype": getattr(torch, model.dtype)}
            return kind.auto_class.from_config(config, trust_remote_code=model.trust_remote_code, **options)
        except ValueError as error:
            raise UserError("unsupported-model", f"{model.name_or_path}: {first_line(error)}") from None


def load_base(
    model: Model, config: PretrainedConfig, kind: ModelKind, seed: int, device: torch.device | None = None
) -> tuple[PreTrainedModel, list[str]]:
    """Load the weights of a base.

    Args:
        seed: the seed of the head's initial values.
        device: the device of a quantised base; None for the default device.

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
    loaded, info = from_pretrained(
        kind.auto_class.from_pretrained,
        model,
        config=config,
        dtype=model.dtype if model.dtype == "auto" else getattr(torch, model.dtype),
        output_loading_info=True,
        **_quantization(model, config, kind, device),
        ignore_mismatched_sizes=True,  # a head of another task is initialised; other mismatches are refused below
    )
    for module in loaded.modules():
        if hasattr(module, _CPU_LAYOUT_FLAG):
            setattr(module, _CPU_LAYOUT_FLAG, False)
    head = head_parameter_names(loaded)
    fresh = [name for name in sorted(info["missing_keys"]) if name not in head]
    if missing := [name for name in fresh if _OPTIONAL_MODULE not in name.split(".")]:
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
    names = [name for name, _ in loaded.named_parameters()]
    return loaded, [name for name in names if name in {*head, *fresh}]


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
            hint="Install it: pip install 'red-cli[quant]'",
        )
    # With None, the library skips the output layer of a language model
    head = sorted({name.split(".")[0] for name in head_parameter_names(skeleton(config, model, kind))}) or None
    dtype = torch.float32 if model.dtype == "auto" else getattr(torch, model.dtype)
    place = {} if device is None or device.type == "cpu" else {"device_map": {"": device}}
    if model.quantization == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=head), **place}
    options = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=head
    )
    return {"quantization_config": options, **place}


def to_device(model: PreTrainedModel, device: torch.device | str) -> None:
    """Move a model to a device; a quantised one stays where it was loaded."""
    if not getattr(model, "is_quantized", False):
        model.to(device)
