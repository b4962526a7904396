"""The dtype in which a base is loaded: what `model.dtype: auto` stands for, by the base's files and the device."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from transformers import PretrainedConfig, PreTrainedModel

from red_cli.base_model.base_files import read_base
from red_cli.base_model.hub import base_folder, model_folder, stored_shapes_on_hub
from red_cli.base_model.stored_tensor import TORCH_NAMES
from red_cli.distributed.device import chosen_device, computes_well_in, device_word
from red_cli.errors import UserError
from red_cli.recipe.schema import Recipe, with_dtype
from red_cli.recipe.sections import Dtype, Model

_HALF = ("bfloat16", "float16")
_FILES, _CONFIG = "its files", "its config.json"
_UNKNOWN = "since neither its files nor its config.json tell it"


@dataclass(frozen=True)
class BaseDtype:
    """The dtype of a base in memory.

    Attributes:
        name: torch's name.
        why: what `auto` took it from, in words; None if the recipe names the dtype.
    """

    name: Dtype
    why: str | None

    @property
    def is_usual(self) -> bool:
        """Whether it is the float32 of the files. Most small bases have it, and a plan leaves it out."""
        return (self.name, self.why) == ("float32", f"as {_FILES}")


def recipe_dtype(recipe: Recipe, config: PretrainedConfig) -> BaseDtype:
    """The dtype in which a recipe's base is loaded. A method that trains parameters of the base takes float32.

    Args:
        config: the base's configuration.
    """
    if recipe.model.dtype == "auto" and recipe.method_spec.base_parameters != "none":
        return BaseDtype("float32", f"as method {recipe.method} trains it")
    return base_dtype(recipe.model, config)


def base_dtype(model: Model, config: PretrainedConfig) -> BaseDtype:
    """The dtype in which a base is loaded, for any method that leaves its parameters as they are."""
    if model.dtype != "auto":
        return BaseDtype(model.dtype, None)
    source, found = _FILES, _stored_dtype(model)
    if found is None:
        source, found = _CONFIG, _known(str(config.dtype).removeprefix("torch."))
    if found is None:
        return BaseDtype("float32", _UNKNOWN)
    device = chosen_device()
    if found in _HALF and not computes_well_in(device, found):
        of_source = f"{source}'" if source.endswith("s") else f"{source}'s"
        return BaseDtype("float32", f"instead of {of_source} {found}, for this {device_word(device)}")
    return BaseDtype(found, f"as {source}")


def fetch_for_dtype(recipe: Recipe, status: Callable[[str], None]) -> None:
    """Fetch a base from the Hub before its dtype is asked for, where `auto` needs files whose headers the Hub has not.

    They are .bin files, or the Hub does not answer. After the download of the weights, another dtype could be found.

    Args:
        status: shows that this takes a while.

    Raises:
        UserError: the base cannot be fetched.
    """
    model = recipe.model
    if model.dtype != "auto" or recipe.method_spec.base_parameters != "none":
        return
    if model_folder(model.name_or_path, model.revision) is not None or _stored_shapes(model):
        return
    status("fetching the base")
    try:
        base_folder(model.name_or_path, model.revision)
    except UserError as error:
        hint = "Check the name and the network, or name a local folder: model.name_or_path=<folder>"
        raise UserError(error.code, error.message, hint=hint) from None


def with_base_dtype(recipe: Recipe, config: PretrainedConfig) -> Recipe:
    """The recipe with the dtype in which its base is loaded, also where it says `auto`."""
    return with_dtype(recipe, recipe_dtype(recipe, config).name)


def mapped_numbers(model: Model, config: PretrainedConfig, skeleton: PreTrainedModel) -> int:
    """How many numbers of a base that is loaded on a CPU stay in its files, which are mapped into memory.

    All processes share their pages, and the system can drop them. Loading copies tensors that it converts from another
    dtype, those whose shapes the files do not have, such as the experts of a mixture that are stored one by one, and
    all of a quantised base.

    Args:
        skeleton: the base without its weights.
    """
    if model.quantization is not None:
        return 0
    loaded = base_dtype(model, config).name
    left = Counter(shape for dtype, shape in _stored_shapes(model) if TORCH_NAMES.get(dtype) == loaded)
    mapped = 0
    for parameter in skeleton.parameters():
        shape = tuple(parameter.shape)
        if left[shape]:
            left[shape] -= 1
            mapped += parameter.numel()
    return mapped


def _stored_dtype(model: Model) -> Dtype | None:
    """The dtype of most numbers in the files of a base, which may keep some parts in another; None if unknown."""
    floats: Counter[str] = Counter()
    for dtype, shape in _stored_shapes(model):
        if dtype in TORCH_NAMES:
            floats[dtype] += math.prod(shape)
    return _known(TORCH_NAMES[max(floats, key=lambda dtype: floats[dtype])]) if floats else None


def _stored_shapes(model: Model) -> list[tuple[str, tuple[int, ...]]]:
    """safetensors' name of the dtype, and the shape, of each tensor in the files of a base; none if unknown."""
    folder = model_folder(model.name_or_path, model.revision)
    if folder is None:
        return stored_shapes_on_hub(model.name_or_path, model.revision)
    try:
        return [(stored.dtype, stored.shape) for stored in read_base(model.name_or_path, folder).tensors.values()]
    except UserError:  # loading the weights says what is wrong with them
        return []


def _known(name: str) -> Dtype | None:
    """The dtype of this name in which bases are loaded: float64 becomes float32; None for other kinds of numbers."""
    if name == "float64":
        return "float32"
    return cast(Dtype, name) if name in ("float32", *_HALF) else None
