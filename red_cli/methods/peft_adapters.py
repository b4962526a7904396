"""LoRA and IA3 by the PEFT library, saved in its own format, so that `PeftModel.from_pretrained` loads them."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from red_cli.edit.adapter_config import BaseDigest, require_same_base
from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.config import Position, RedConfig
from red_cli.edit.targets import find_targets
from red_cli.errors import UserError, first_line
from red_cli.methods.description import OPTIONS, read_stored
from red_cli.methods.stored import copy_stored, write_stored
from red_cli.methods.trained import Trained, base_size, free
from red_cli.recipe.schema import Ia3, Lora, MethodName

_NAME = "default"
_PREFIX = "base_model.model."
_WEIGHTS_FILE = "adapter_model.safetensors"
# How the names of model classes end -> PEFT's word for their task
_TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}
# What is adapted where the recipe does not say: the usual choice of each method's authors for separate projections
_USUAL: dict[MethodName, tuple[Position, ...]] = {"lora": ("query", "value"), "ia3": ("key", "value", "ffn")}


def require_peft(method: str) -> None:
    """Check that PEFT is there.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("peft") is None:
        raise UserError(f"method {method}: peft is not installed", hint="Install it: pip install 'red-cli[baselines]'")


def _paths(model: PreTrainedModel, positions: list[Position] | None, method: MethodName) -> list[str]:
    """Paths of the projections at `positions`; by default the usual ones, or the fused one they are part of."""
    if positions is None:
        architecture = ARCHITECTURES.get(model.config.model_type)
        known = get_args(Position) if architecture is None else tuple(architecture.positions)
        positions = list(dict.fromkeys(name if name in known else "qkv" for name in _USUAL[method]))
    return _found(model, RedConfig(positions=positions), method)


def _found(model: PreTrainedModel, config: RedConfig, method: MethodName) -> list[str]:
    try:
        return [target.path for target in find_targets(model, config)]
    except UserError as error:  # it speaks of the keys under `red`
        hint = error.hint and error.hint.replace("red.", f"{method}.")
        raise UserError(error.message.replace("red.", f"{method}."), hint=hint) from None


def _lora_config(model: PreTrainedModel, options: Lora) -> Any:
    from peft import LoraConfig

    if options.target_modules is not None:
        paths = _found(model, RedConfig(target_modules=options.target_modules), "lora")
    else:
        paths = _paths(model, options.positions, "lora")
    return LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=paths,
        fan_in_fan_out=_conv1d(model, paths),
    )  # fmt: skip


def _ia3_config(model: PreTrainedModel, options: Ia3) -> Any:
    """Outputs of the attention's projections and inputs of the FFN's are scaled (arXiv 2205.05638, section 3.3)."""
    from peft import IA3Config

    paths = _paths(model, options.positions, "ia3")
    feedforward = _paths(model, ["ffn"], "ia3") if options.positions is None or "ffn" in options.positions else []
    return IA3Config(
        target_modules=paths,
        feedforward_modules=[path for path in paths if path in set(feedforward)],
        fan_in_fan_out=_conv1d(model, paths),
    )


_CONFIGS: dict[MethodName, Callable[[PreTrainedModel, Any], Any]] = {"lora": _lora_config, "ia3": _ia3_config}


def _conv1d(model: PreTrainedModel, paths: list[str]) -> bool:
    return isinstance(model.get_submodule(paths[0]), Conv1D)


def _attach(method: MethodName, model: PreTrainedModel, options: Any, head: list[str]) -> Trained:
    require_peft(method)
    from peft import inject_adapter_in_model

    config = _CONFIGS[method](model, options)
    size = base_size(model, head)
    before = {name for name, _ in model.named_parameters()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inject_adapter_in_model(config, model, _NAME)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"method {method} does not fit this model: {first_line(error)}") from None
    part = [name for name, _ in model.named_parameters() if name not in before and f".{_NAME}" in name]
    free(model, part, head)
    vectors = set(part) if method == "ia3" else set()  # they start at 1
    return Trained(model, sorted(config.target_modules), part, head, size, spared=vectors)


def _parameters(trained: Trained) -> dict[str, nn.Parameter]:
    """What trains by its keys in PEFT's files."""
    return {_PREFIX + name.replace(f".{_NAME}", ""): trained.model.get_parameter(name) for name in trained.names}


def _save(
    method: MethodName,
    trained: Trained,
    folder: Path,
    options: Lora | Ia3,
    revision: str | None,
    digest: BaseDigest | None,
) -> None:
    model = trained.model
    write_stored(
        folder, model, method, options.model_dump(), trained.head, _parameters(trained), _WEIGHTS_FILE, revision,
        digest, libraries=("torch", "transformers", "peft"),
    )  # fmt: skip
    config = model.peft_config[_NAME]
    config.base_model_name_or_path, config.revision = model.config._name_or_path, revision
    ends = (kind for end, kind in _TASK_TYPES.items() if type(model).__name__.endswith(end))
    config.task_type, config.inference_mode = next(ends, "FEATURE_EXTRACTION"), True
    config.modules_to_save = _modules_of(model, trained.head) or None
    config.save_pretrained(folder)


def _modules_of(model: PreTrainedModel, head: list[str]) -> list[str]:
    """The largest modules that hold nothing but parameters of the head: PEFT saves whole modules."""
    known, modules = set(head), list[str]()
    for name in head:
        owners = [name[:end] for end, letter in enumerate(name) if letter == "."]
        whole = (
            owner
            for owner in owners
            if all(f"{owner}.{inner}" in known for inner, _ in model.get_submodule(owner).named_parameters())
        )
        modules.append(next(whole))
    return list(dict.fromkeys(modules))


def _load(method: MethodName, model: PreTrainedModel, folder: Path) -> Trained:
    stored = read_stored(folder)
    require_same_base(model, stored, folder)
    trained = _attach(method, model, OPTIONS[method].model_validate(stored.options), stored.head)
    load_weights(trained, folder)
    return trained


def load_weights(trained: Trained, folder: Path) -> None:
    """Copy the stored tensors over the adapter and the head."""
    copy_stored(folder, _parameters(trained))


attach_lora, save_lora, load_lora = partial(_attach, "lora"), partial(_save, "lora"), partial(_load, "lora")
attach_ia3, save_ia3, load_ia3 = partial(_attach, "ia3"), partial(_save, "ia3"), partial(_load, "ia3")
