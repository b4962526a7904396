"""Find the byte range of each tensor in pytorch_model.bin files without reading the tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from red_cli.base_model.stored_tensor import COPY_AGAIN, SAFETENSORS_NAMES, StoredTensor
from red_cli.errors import UserError, first_line

_OTHER_NAMES = {"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
_SAVE_AGAIN = "Load it with transformers, save it again as safetensors (save_pretrained), and name that: --base FOLDER"


def read_bin(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Yield (name, byte range) of each tensor. Unpickling is limited to tensors (`weights_only=True`).

    Raises:
        UserError: the file is missing, damaged, or in the format from before torch 1.6.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    if not file.is_file():
        raise UserError("file-not-found", f"{file} is missing", hint=COPY_AGAIN)
    try:
        with FakeTensorMode():
            content = torch.load(file, weights_only=True, map_location="cpu")
        tensors = {key: tensor for key, tensor in content.items() if isinstance(tensor, torch.Tensor)}
        offsets = {key: int(tensor.untyped_storage()._checkpoint_offset or 0) for key, tensor in tensors.items()}
    except Exception as error:  # unpickling raises many kinds of errors
        raise UserError("unsupported-file", f"{file} cannot be read: {first_line(error)}", hint=_SAVE_AGAIN) from None
    for key, tensor in tensors.items():
        name = str(tensor.dtype).removeprefix("torch.")
        dtype = SAFETENSORS_NAMES.get(name) or _OTHER_NAMES.get(name)
        if dtype is None or not tensor.is_contiguous():
            raise UserError(
                "unsupported-file", f"{file}: {key} is stored in a way that cannot be copied", hint=_SAVE_AGAIN
            )
        start = offsets[key] + int(tensor.storage_offset()) * tensor.element_size()
        yield key, StoredTensor(file, dtype, tuple(tensor.shape), start, start + tensor.numel() * tensor.element_size())
