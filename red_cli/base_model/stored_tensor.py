"""Tensors as files store them: byte ranges, and conversion of raw bytes to float32 and back with numpy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from red_cli.errors import UserError

# safetensors' name -> numpy type. numpy has no bfloat16, which is the upper half of a float32.
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# safetensors' name -> torch's name, as configurations and recipes have it
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SAFETENSORS_NAMES = {name: stored for stored, name in TORCH_NAMES.items()}
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1,
         "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8}  # fmt: skip
_BF16_BITS = np.uint32(16)
_BF16_HALF = np.uint32(0x7FFF)
_ONE = np.uint32(1)
_BF16_EXPONENT = 0x7F80  # all ones: infinite or NaN


def is_float(dtype: str) -> bool:
    """Whether a stored tensor of this dtype can be edited: floating point of 16 bits or more."""
    return dtype in _STORED


def to_float32(raw: memoryview | bytes, dtype: str) -> NDArray[np.float32]:
    """Convert `raw`, stored as `dtype`, to a new float32 array of shape (numbers,)."""
    stored = np.frombuffer(raw, dtype=_STORED[dtype])
    if dtype != "BF16":
        return stored.astype(np.float32)
    wide = stored.astype(np.uint32)
    np.left_shift(wide, _BF16_BITS, out=wide)
    return wide.view(np.float32)


def from_float32(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Round `values` to nearest even; the result's bytes are what a file of `dtype` stores."""
    if dtype != "BF16":
        with np.errstate(over="ignore"):  # `require_finite` reports it
            return values.astype(_STORED[dtype])
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = np.right_shift(bits, _BF16_BITS)
    np.bitwise_and(rounded, _ONE, out=rounded)
    np.add(rounded, _BF16_HALF, out=rounded)
    np.add(rounded, bits, out=rounded)
    np.right_shift(rounded, _BF16_BITS, out=rounded)
    return rounded.astype(np.uint16)


def require_finite(name: str, stored: NDArray[Any], dtype: str) -> None:
    """Check that a stored tensor, raw bytes of `dtype`, holds no infinite value or NaN.

    Raises:
        UserError: the stored array holds an infinite value or NaN.
    """
    if dtype == "BF16":
        finite = not ((stored & np.uint16(_BF16_EXPONENT)) == np.uint16(_BF16_EXPONENT)).any()
    else:
        finite = bool(np.isfinite(stored).all())
    if not finite:
        raise UserError(
            "value-not-finite",
            f"{name} would hold numbers that {TORCH_NAMES[dtype]} cannot represent",
            hint="Export with --dtype float32 or bfloat16; if that does not help, the base's own weight is damaged.",
        )


@dataclass(frozen=True)
class StoredVector:
    """A tensor as a file stores it, but small and in memory."""

    shape: tuple[int, ...]
    dtype: str
    content: bytes


def stored_vector(name: str, values: NDArray[np.float32], dtype: str) -> StoredVector:
    """The stored tensor `name`: float32 `values` converted to raw bytes of `dtype`.

    Raises:
        UserError: `dtype` cannot represent a value.
    """
    stored = from_float32(values, dtype)
    require_finite(name, stored, dtype)
    return StoredVector(values.shape, dtype, stored.tobytes())


COPY_AGAIN = "Fetch or copy the base again."


@dataclass(frozen=True)
class StoredTensor:
    """A tensor stored row by row in bytes `start` to `end` (excluded) of `file`; `dtype` is safetensors' name."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def rows(self, first: int, last: int) -> StoredTensor:
        """The rows `first` to `last` (excluded) of the first dimension."""
        row = self.size // self.shape[0]
        shape = (last - first, *self.shape[1:])
        return StoredTensor(self.file, self.dtype, shape, self.start + first * row, self.start + last * row)

    def read(self) -> bytes:
        """Read the bytes.

        Raises:
            UserError: the file is shorter than it was.
        """
        with self.file.open("rb") as file:
            content = os.pread(file.fileno(), self.size, self.start)
        if len(content) != self.size:
            raise UserError("file-damaged", f"{self.file} is cut short", hint=COPY_AGAIN)
        return content
