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

_CHECKPOINT_MAY_LACK = "pooler"
# On a CPU a 4-bit layer of bitsandbytes takes another layout at its first evaluation, in which it cannot train on.
_INFERENCE_LAYOUT = "support_avx512bf16_for_cpu"


def skeleton(config: PretrainedConfig, model: Model, kind: ModelKind) -> PreTrainedModel:
    """The model without weights, on the meta device: enough to find modules and count parameters.

    Raises:
        UserError: the architecture has no model of that kind.
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
    """Load the base's weights; returns the model and the names of the parameters of its head.

    The head is everything outside the base model proper, and the pooler where the checkpoint has none. A language
    model has no head. `seed` decides the head's initial values. A quantised base is loaded to `device`, or to the
    only device where that is None.

    Raises:
        UserError: no such model, no weights, or weights of another architecture.
    """
    if has_own_code(config) and not model.trust_remote_code:
        raise UserError(
            "code-not-allowed",
            f"{model.name_or_path} has a modelling file of its own, without which its biases are lost",
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
        ignore_mismatched_sizes=True,  # a head of another task is initialised again; anything else is refused below
    )
    for module in loaded.modules():
        if hasattr(module, _INFERENCE_LAYOUT):
            setattr(module, _INFERENCE_LAYOUT, False)
    head = head_parameter_names(loaded)
    fresh = [name for name in sorted(info["missing_keys"]) if name not in head]
    if missing := [name for name in fresh if _CHECKPOINT_MAY_LACK not in name.split(".")]:
        raise UserError(
            "file-damaged",
            f"{model.name_or_path}: the weights do not fit a {config.model_type} model: {missing[0]}"
            f" and {len(missing) - 1} more are missing",
        )
    wrong = [name for name, *_ in info["mismatched_keys"] if name not in head]
    if wrong:
        raise UserError(
            "base-mismatch",
            f"{model.name_or_path}: {wrong[0]} in the weights has another shape than its configuration says",
        )
    names = [name for name, _ in loaded.named_parameters()]
    return loaded, [name for name in names if name in {*head, *fresh}]


def _quantization(
    model: Model, config: PretrainedConfig, kind: ModelKind, device: torch.device | None
) -> dict[str, Any]:
    """Options that load the base in 8 or 4 bits; the head, which trains, stays as it is, and so does an output layer.

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
    # None: the library leaves a language model's output layer as it is
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
    """Move a model, unless it is quantised: that one was placed when it was loaded."""
    if not getattr(model, "is_quantized", False):
        model.to(device)
