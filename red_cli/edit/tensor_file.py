"""Read tensor files strictly: keys, shapes, dtypes, finite values and the file's digest are checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError, safe_open

from red_cli.errors import UserError, first_line
from red_cli.files import file_sha256
from red_cli.formatting import some_of

if TYPE_CHECKING:  # torch is imported where its tensors are returned
    from torch import Tensor, nn

_MOST_PROBLEMS = 6
_COPY_AGAIN = "Copy it again, or train again."
_NOT_FINITE = "holds values that are not finite"

Form = tuple[tuple[int, ...] | None, str]  # shape (None: any) and dtype without the library's name


def read_tensors(
    file: Path, expected: Mapping[str, Form], sha256: str, recorded_in: str, framework: Literal["pt", "numpy"]
) -> dict[str, Any]:
    """Read the tensors of a safetensors file by key.

    Args:
        sha256: the digest of the file that is recorded in the file `recorded_in`.
        framework: the kind of tensors to return.

    Raises:
        UserError: the file is missing or damaged; a key is missing, unexpected, or of another shape or dtype; or a
            value is not finite.
    """
    if not file.is_file():
        raise UserError("file-damaged", f"{file.parent} has no {file.name}", hint=_COPY_AGAIN)
    try:
        with safe_open(file, framework=framework) as handle:
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise UserError("file-damaged", f"{file} is damaged: {first_line(error)}", hint=_COPY_AGAIN) from None
    unlike = {"missing": expected.keys() - tensors.keys(), "unexpected": tensors.keys() - expected.keys()}
    problems = [f"{label}: {some_of(sorted(keys))}" for label, keys in unlike.items() if keys]
    for key in sorted(expected.keys() & tensors.keys()):
        (shape, dtype), found = expected[key], tensors[key]
        if shape is not None and shape != tuple(found.shape):
            problems.append(f"{key} has shape {tuple(found.shape)}, expected {shape}")
        elif dtype != _name(found.dtype):
            problems.append(f"{key} is {_name(found.dtype)}, expected {dtype}")
        elif not (abs(found) < math.inf).all():
            problems.append(f"{key} {_NOT_FINITE}")
    if problems:
        raise UserError(
            "file-damaged", "\n  ".join([f"{file} does not fit what it belongs to", *problems[:_MOST_PROBLEMS]])
        )
    if file_sha256(file) != sha256:
        raise UserError(
            "file-damaged", f"{file} is damaged: its digest is not the one in {recorded_in}", hint=_COPY_AGAIN
        )
    return tensors


def copy_into(
    parameters: Mapping[str, nn.Parameter], file: Path, sha256: str, recorded_in: str, dtype: str | None = None
) -> None:
    """Copy the tensors of a safetensors file into `parameters` by key. After an error nothing is changed.

    Args:
        dtype: that of the file's tensors; None: that of each parameter.

    Raises:
        UserError: whatever `read_tensors` raises.
    """
    import torch

    expected = {key: (tuple(parameter.shape), dtype or _name(parameter.dtype)) for key, parameter in parameters.items()}
    tensors = read_tensors(file, expected, sha256, recorded_in, "pt")
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(tensors[key])


def read_torch_file(file: Path) -> dict[str, Tensor]:
    """Read a tensor file that `torch.save` wrote; unpickling is limited to tensors.

    Raises:
        UserError: the file has other content, or a value is not finite.
    """
    import torch

    try:
        stored = torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # a pickle of anything but tensors, a truncated archive, any other file
        raise UserError("unsupported-file", f"{file} is not a file of tensors: {first_line(error)}") from None
    if not isinstance(stored, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in stored.values()):
        raise UserError("unsupported-file", f"{file} is not a file of named tensors")
    for key, tensor in stored.items():
        if not torch.isfinite(tensor).all():
            raise UserError("value-not-finite", f"{file}: {key} {_NOT_FINITE}")
    return stored


def _name(dtype: object) -> str:
    """The name of a tensor's dtype without the prefix torch."""
    return str(dtype).removeprefix("torch.")
