"""Bases stored as pytorch_model.bin: where in these files each tensor's bytes lie, without reading them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from red_cli.base_model.dtypes import SAFETENSORS_NAMES
from red_cli.base_model.stored_tensor import StoredTensor
from red_cli.errors import UserError, first_line

_OTHER_NAMES = {"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}


def read_bin(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """(name, place) of each tensor. Only tensors are unpickled (`weights_only=True`); their numbers are not read.

    Raises:
        UserError: the file is missing or damaged, or of the format before torch 1.6.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    if not file.is_file():
        raise UserError(f"{file} is missing", hint="Fetch or copy the base again.")
    try:
        with FakeTensorMode():
            content = torch.load(file, weights_only=True, map_location="cpu")
        tensors = {key: tensor for key, tensor in content.items() if isinstance(tensor, torch.Tensor)}
        offsets = {key: int(tensor.untyped_storage()._checkpoint_offset or 0) for key, tensor in tensors.items()}
    except Exception as error:  # pickles fail in a dozen ways
        raise UserError(f"{file} cannot be read: {first_line(error)}", hint=_SAVE_AGAIN) from None
    for key, tensor in tensors.items():
        name = str(tensor.dtype).removeprefix("torch.")
        dtype = SAFETENSORS_NAMES.get(name) or _OTHER_NAMES.get(name)
        if dtype is None or not tensor.is_contiguous():
            raise UserError(f"{file}: {key} is stored in a way that cannot be copied", hint=_SAVE_AGAIN)
        start = offsets[key] + int(tensor.storage_offset()) * tensor.element_size()
        yield key, StoredTensor(file, dtype, tuple(tensor.shape), start, start + tensor.numel() * tensor.element_size())


_SAVE_AGAIN = "Load it with transformers, save it again as safetensors (save_pretrained), and name that: --base FOLDER"
