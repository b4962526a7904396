"""Methods of the PEFT library, saved in its format, so that `PeftModel.from_pretrained` loads them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.config import Position, RedConfig
from red_cli.edit.recorded_base import BaseDigest, require_same_base
from red_cli.edit.targets import find_targets
from red_cli.errors import UserError, first_line
from red_cli.methods.base_parameters import base_size, set_trainable
from red_cli.methods.method import Method, Rates, Trained
from red_cli.methods.trained_description import read_trained_config
from red_cli.methods.trained_tensors import copy_trained, write_trained
from red_cli.recipe.methods import METHODS, MethodName, require_method_package

_NAME = "default"
_PREFIX = "base_model.model."
_WEIGHTS_FILE = "adapter_model.safetensors"
# End of a model class's name -> PEFT's task type
_TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


def peft_method(
    name: MethodName,
    configure: Callable[[PreTrainedModel, Any], Any],
    rates: Rates,
    no_decay: Callable[[list[str]], set[str]] = lambda names: set(),
) -> Method:
    """A method of PEFT.

    Args:
        configure: (model, options) -> PEFT's configuration, whose target modules are full paths.
        no_decay: names of the adapter's parameters -> those without weight decay.
    """

    def attach(model: PreTrainedModel, options: Any, head: list[str]) -> Trained:
        require_method_package(name)
        from peft import inject_adapter_in_model

        config = configure(model, options)
        size = base_size(model, head)
        before = {parameter for parameter, _ in model.named_parameters()}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                inject_adapter_in_model(config, model, _NAME)
        except (ValueError, NotImplementedError) as error:
            raise UserError(
                "unsupported-model", f"method {name} does not fit this model: {first_line(error)}"
            ) from None
        fresh = [parameter for parameter, _ in model.named_parameters() if parameter not in before]
        names = [parameter for parameter in fresh if f".{_NAME}" in parameter]
        set_trainable(model, names, head)
        return Trained(model, sorted(config.target_modules), names, head, size, no_decay=no_decay(names))

    def save(
        trained: Trained, folder: Path, options: BaseModel, revision: str | None, digest: BaseDigest | None
    ) -> None:
        write_trained(
            folder, trained.model, name, options.model_dump(), trained.head, _parameters(trained), _WEIGHTS_FILE,
            revision, digest, libraries=("torch", "transformers", "peft"),
        )  # fmt: skip
        _save_config(trained, folder, revision)

    def load(model: PreTrainedModel, folder: Path) -> Trained:
        stored = read_trained_config(folder)
        require_same_base(model, stored, folder)
        options = METHODS[name].options
        assert options is not None
        trained = attach(model, options.model_validate(stored.options), stored.head)
        _load_weights(trained, folder)
        return trained

    return Method(attach, save, load, _load_weights, rates)


def paths_at(
    model: PreTrainedModel, positions: list[Position] | None, usual: tuple[Position, ...], method: MethodName
) -> list[str]:
    """Paths of the projections that PEFT adapts at `positions`; by default the usual ones, or the fused one."""
    if positions is None:
        architecture = ARCHITECTURES.get(model.config.model_type)
        known = get_args(Position) if architecture is None else tuple(architecture.positions)
        positions = list(dict.fromkeys(name if name in known else "qkv" for name in usual))
    return paths_of(model, RedConfig(positions=positions), method)


def paths_of(model: PreTrainedModel, config: RedConfig, method: MethodName) -> list[str]:
    """Paths of the modules that PEFT adapts by `config`, the method's section of a recipe.

    Raises:
        UserError: it selects none.
    """
    try:
        return [target.path for target in find_targets(model, config)]
    except UserError as error:  # the message names keys of the section `red`
        hint = error.hint and error.hint.replace("red.", f"{method}.")
        raise UserError(error.code, error.message.replace("red.", f"{method}."), hint=hint) from None


def stored_by_columns(model: PreTrainedModel, paths: list[str]) -> bool:
    """Whether the projections that PEFT adapts store their weights as (in, out), as in GPT-2."""
    return isinstance(model.get_submodule(paths[0]), Conv1D)


def _parameters(trained: Trained) -> dict[str, nn.Parameter]:
    """Key in PEFT's files -> trainable parameter."""
    return {_PREFIX + name.replace(f".{_NAME}", ""): trained.model.get_parameter(name) for name in trained.names}


def _modules_of(model: PreTrainedModel, head: list[str]) -> list[str]:
    """The largest modules that have only parameters of the head, since PEFT saves full modules."""
    known, modules = set(head), list[str]()
    for name in head:
        owners = [name[:end] for end, letter in enumerate(name) if letter == "."]
        modules_of_head = (
            owner
            for owner in owners
            if all(f"{owner}.{inner}" in known for inner, _ in model.get_submodule(owner).named_parameters())
        )
        modules.append(next(modules_of_head))
    return list(dict.fromkeys(modules))


def _save_config(trained: Trained, folder: Path, revision: str | None) -> None:
    """Save the configuration of a PEFT adapter, with the base, the task type and the head's modules."""
    model = trained.model
    config = model.peft_config[_NAME]
    config.base_model_name_or_path, config.revision = model.config._name_or_path, revision
    ends = (kind for end, kind in _TASK_TYPES.items() if type(model).__name__.endswith(end))
    config.task_type, config.inference_mode = next(ends, "FEATURE_EXTRACTION"), True
    config.modules_to_save = _modules_of(model, trained.head) or None
    config.save_pretrained(folder)


def _load_weights(trained: Trained, folder: Path) -> None:
    """Load the saved tensors of a PEFT adapter into the model."""
    copy_trained(folder, _parameters(trained))
