"""Methods that train parameters the base has already: all of them, its biases, or none but the head."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from red_cli.edit.adapter_config import BaseDigest, require_same_base
from red_cli.errors import UserError
from red_cli.methods.description import read_stored
from red_cli.methods.stored import copy_stored, write_stored
from red_cli.methods.trained import Trained, base_size, free
from red_cli.recipe.schema import MethodName

_WEIGHTS_FILE = "trained.safetensors"


def _all(model: PreTrainedModel) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def _biases(model: PreTrainedModel) -> list[str]:
    """Every bias (Ben Zaken et al. 2022, arXiv 2106.10199).

    Raises:
        UserError: the architecture has none.
    """
    names = [name for name in _all(model) if name.endswith("bias")]
    if not names:
        raise UserError(f"method bitfit: a {model.config.model_type} model has no biases")
    return names


def _none(model: PreTrainedModel) -> list[str]:
    return []


_CHOICES = {"full": _all, "bitfit": _biases, "head": _none}


def _attach(method: MethodName, model: PreTrainedModel, options: None, head: list[str]) -> Trained:
    part = [name for name in _CHOICES[method](model) if name not in set(head)]
    if not part and not head:
        raise UserError(f"method {method}: nothing of this {model.config.model_type} model would train: it has no head")
    if lower := [name for name in part if model.get_parameter(name).dtype != torch.float32]:
        dtype = str(model.get_parameter(lower[0]).dtype).removeprefix("torch.")
        raise UserError(
            f"method {method} trains the base's own parameters, which are {dtype} here",
            hint="Set model.dtype=float32 (train.bf16 still computes in bfloat16), without model.quantization.",
        )
    size = base_size(model, head)
    free(model, part, head)
    return Trained(model, [], part, head, size, spared=_vectors(model, part))


def _vectors(model: PreTrainedModel, names: list[str]) -> set[str]:
    """Biases and norms, which weight decay customarily leaves alone."""
    return {name for name in names if model.get_parameter(name).dim() == 1}


def _save(
    method: MethodName, trained: Trained, folder: Path, options: None, revision: str | None, digest: BaseDigest | None
) -> None:
    parameters = dict(zip(trained.names, trained.parameters(trained.names), strict=True))
    write_stored(folder, trained.model, method, {}, trained.head, parameters, _WEIGHTS_FILE, revision, digest)


def _load(method: MethodName, model: PreTrainedModel, folder: Path) -> Trained:
    stored = read_stored(folder)
    require_same_base(model, stored, folder)
    trained = _attach(method, model, None, stored.head)
    load_weights(trained, folder)
    return trained


def load_weights(trained: Trained, folder: Path) -> None:
    """Copy the stored tensors over the parameters that train."""
    copy_stored(folder, dict(zip(trained.names, trained.parameters(trained.names), strict=True)))


attach_full, save_full, load_full = partial(_attach, "full"), partial(_save, "full"), partial(_load, "full")
attach_bitfit, save_bitfit, load_bitfit = partial(_attach, "bitfit"), partial(_save, "bitfit"), partial(_load, "bitfit")
attach_head, save_head, load_head = partial(_attach, "head"), partial(_save, "head"), partial(_load, "head")
