"""Load what a recipe names: configuration, tokenizer, base model, or its skeleton without weights."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
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

from red_cli.base_model.files import BIASES_KEY
from red_cli.edit.architectures import facts_of
from red_cli.edit.kinds import Kind
from red_cli.edit.model import head_parameter_names
from red_cli.errors import UserError, first_line
from red_cli.recipe.schema import HOW_TO_ALLOW, Model, Train
from red_cli.tasks.text.tokens import padding_id

_USUAL_HEAD_DROPOUT = "classifier_dropout"
_PLAIN_ATTENTION_UP_TO = 512  # tokens: it keeps the scores of every pair
_PROBE = "a"
_NO_LIMIT = 10**6  # tokenizers without a limit say 10**30
_CHECKPOINT_MAY_LACK = "pooler"
# On a CPU a 4-bit layer of bitsandbytes takes another layout at its first evaluation, in which it cannot train on.
_INFERENCE_LAYOUT = "support_avx512bf16_for_cpu"
_T = TypeVar("_T")


def load_config(model: Model) -> PretrainedConfig:
    """The base's configuration as it is.

    Raises:
        UserError: no such model, no network, not a configuration, or code is needed that has not been allowed to run.
    """
    config = _from_pretrained(AutoConfig.from_pretrained, model)
    for kernel in (getattr(config, f"_{kind}_implementation", None) for kind in ("attn", "experts")):
        if isinstance(kernel, str) and "/" in kernel and not model.trust_remote_code:
            raise UserError(
                f"{model.name_or_path} computes by code from the Hub, {kernel}, which has not been allowed to run",
                hint=HOW_TO_ALLOW,
            )
    return config


def fit_config(config: PretrainedConfig, model: Model, kind: Kind, label_names: list[str] | None) -> None:
    """Give a configuration the task's label names, the outputs of a head that is to train, and the recipe's dropout."""
    if label_names is None and kind.trains_head:
        config.num_labels = 1
        config.problem_type = "regression"
    elif label_names is not None:
        config.id2label = dict(enumerate(label_names))
        config.label2id = {name: index for index, name in enumerate(label_names)}
        config.problem_type = "single_label_classification"
    if model.dropout is not None:
        for key, value in config.to_dict().items():
            if "drop" in key and "layerdrop" not in key and (value is None or isinstance(value, float | int)):
                setattr(config, key, model.dropout)
    if model.classifier_dropout is not None:
        own_name = facts_of(config.model_type).head_dropout
        if own_name is None and _USUAL_HEAD_DROPOUT not in config.to_dict():
            raise UserError(f"model.classifier_dropout: a {config.model_type} model has no dropout in its head")
        setattr(config, own_name or _USUAL_HEAD_DROPOUT, model.classifier_dropout)


def load_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The base's tokenizer.

    Raises:
        UserError: there is none, or it cannot write a text as ids of the inputs that it names.
    """
    tokenizer = _from_pretrained(AutoTokenizer.from_pretrained, model)
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest >= 1:
        raise UserError(f"model {model.name_or_path}: model_max_length of its tokenizer is {longest!r}, not a number")
    try:
        written = dict(tokenizer(_PROBE))
        usable = all(isinstance(written[name], list) for name in tokenizer.model_input_names)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        raise UserError(f"model {model.name_or_path}: its tokenizer fails: {first_line(error)}") from error
    if not usable or "input_ids" not in tokenizer.model_input_names:
        raise UserError(f"model {model.name_or_path}: model_input_names of its tokenizer cannot be used")
    return tokenizer


def fit_padding(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the model know the padding that batches have: decoders with a head answer at the last token before it.

    A padding token that the model has no embedding for, since it was given to the tokenizer alone, is not used.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= getattr(config, "vocab_size", math.inf):
        tokenizer.pad_token = None
    config.pad_token_id = padding_id(tokenizer)


def longest_sequence(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens the base takes at once."""
    limits = [tokenizer.model_max_length]
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        limits.append(positions - facts_of(config.model_type).unused_positions)
    return min(limit for limit in (*limits, _NO_LIMIT))


def resolve_max_length(wanted: int | None, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """data.max_length, or the most the base takes.

    Raises:
        UserError: more is wanted than the base takes.
    """
    most = longest_sequence(config, tokenizer)
    if wanted is not None and wanted > most:
        raise UserError(f"data.max_length is {wanted}, but this base takes at most {most} tokens")
    return wanted or min(most, _NO_LIMIT)


def has_own_code(config: Any) -> bool:
    """Whether a configuration belongs to a model with a modelling file of ours."""
    return hasattr(config, BIASES_KEY)


def skeleton(config: PretrainedConfig, model: Model, kind: Kind) -> PreTrainedModel:
    """The model without weights, on the meta device: enough to find modules and count parameters.

    Raises:
        UserError: the architecture has no model of that kind.
    """
    with torch.device("meta"):
        try:
            options = {} if model.dtype == "auto" else {"dtype": getattr(torch, model.dtype)}
            return kind.auto_class.from_config(config, trust_remote_code=model.trust_remote_code, **options)
        except ValueError as error:
            raise UserError(f"{model.name_or_path}: {first_line(error)}") from None


def load_base(
    model: Model, config: PretrainedConfig, kind: Kind, seed: int, device: torch.device | None = None
) -> tuple[PreTrainedModel, list[str]]:
    """The base with its weights, and the names of the parameters that train beside the edits: the head.

    The head is everything outside the base model proper, and the pooler where the checkpoint lacks one; a language
    model has none. `seed` decides its initial values. A quantised base goes to `device` at once, which is None for
    the only one there is.

    Raises:
        UserError: no such model, no weights, or weights of another architecture.
    """
    if has_own_code(config) and not model.trust_remote_code:
        raise UserError(
            f"{model.name_or_path} has a modelling file of its own, without which its biases are lost",
            hint=HOW_TO_ALLOW,
        )
    torch.manual_seed(seed)
    loaded, info = _from_pretrained(
        kind.auto_class.from_pretrained,
        model,
        config=config,
        dtype=model.dtype if model.dtype == "auto" else getattr(torch, model.dtype),
        output_loading_info=True,
        **_quantization(model, config, kind, device),
        ignore_mismatched_sizes=True,  # a head of another task starts anew; anything else is refused below
    )
    for module in loaded.modules():
        if hasattr(module, _INFERENCE_LAYOUT):
            setattr(module, _INFERENCE_LAYOUT, False)
    head = head_parameter_names(loaded)
    fresh = [name for name in sorted(info["missing_keys"]) if name not in head]
    if lacking := [name for name in fresh if _CHECKPOINT_MAY_LACK not in name.split(".")]:
        raise UserError(
            f"{model.name_or_path}: the weights do not fit a {config.model_type} model: {lacking[0]}"
            f" and {len(lacking) - 1} more are missing"
        )
    wrong = [name for name, *_ in info["mismatched_keys"] if name not in head]
    if wrong:
        raise UserError(
            f"{model.name_or_path}: {wrong[0]} in the weights has another shape than its configuration says"
        )
    names = [name for name, _ in loaded.named_parameters()]
    return loaded, [name for name in names if name in {*head, *fresh}]


def _quantization(model: Model, config: PretrainedConfig, kind: Kind, device: torch.device | None) -> dict[str, Any]:
    """Options that load the base in 8 or 4 bits; the head, which trains, stays as it is, and so does an output layer.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    if model.quantization is None:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "model.quantization: bitsandbytes is not installed", hint="Install it: pip install 'red-cli[quant]'"
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


def _from_pretrained(load: Callable[..., _T], model: Model, **options: Any) -> _T:
    name = model.name_or_path
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise UserError(f"model.name_or_path: no such model folder: {name}")
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


def uses_bf16(settings: Train) -> bool:
    """Whether forward passes run under bfloat16 autocast, in training and in scoring alike."""
    if settings.bf16 == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return settings.bf16


def fit_attention(config: PretrainedConfig, kind: Kind, settings: Train, max_length: int) -> None:
    """Let heads over short texts take plain attention where a CPU computes in bfloat16.

    The backward pass of torch's fused kernel takes up to seven times as long there (32 rows of 24 tokens: 23 ms
    against 3), which is a third of a whole training step.
    """
    short = max_length <= _PLAIN_ATTENTION_UP_TO
    if kind.trains_head and short and uses_bf16(settings) and not torch.cuda.is_available():
        config._attn_implementation = "eager"
