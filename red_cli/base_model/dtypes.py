"""Numbers as safetensors files store them, to float32 and back. Blocks of raw bytes; nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from red_cli.errors import UserError

# safetensors' name -> numpy's type of its bytes. numpy has no bfloat16: it is the upper half of a float32.
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# safetensors' name -> torch's, as configurations and recipes write it
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SAFETENSORS_NAMES = {name: stored for stored, name in TORCH_NAMES.items()}
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1,
         "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8}  # fmt: skip
_BF16_BITS = np.uint32(16)
_BF16_HALF = np.uint32(0x7FFF)
_ONE = np.uint32(1)
_BF16_EXPONENT = 0x7F80  # all ones: infinite, or none at all


def is_float(dtype: str) -> bool:
    """Whether tensors of this dtype can be folded: ordinary floating point, not the 8-bit kinds of quantised bases."""
    return dtype in _STORED


def to_float32(raw: memoryview | bytes, dtype: str) -> NDArray[np.float32]:
    """The numbers in `raw`, stored as `dtype`, as a new float32 array of one dimension."""
    stored = np.frombuffer(raw, dtype=_STORED[dtype])
    if dtype != "BF16":
        return stored.astype(np.float32)
    wide = stored.astype(np.uint32)
    np.left_shift(wide, _BF16_BITS, out=wide)
    return wide.view(np.float32)


def from_float32(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """`values` rounded to nearest even, as the array whose bytes are stored for `dtype`."""
    if dtype != "BF16":
        with np.errstate(over="ignore"):  # `require_finite` finds it
            return values.astype(_STORED[dtype])
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = np.right_shift(bits, _BF16_BITS)
    np.bitwise_and(rounded, _ONE, out=rounded)
    np.add(rounded, _BF16_HALF, out=rounded)
    np.add(rounded, bits, out=rounded)
    np.right_shift(rounded, _BF16_BITS, out=rounded)
    return rounded.astype(np.uint16)


def require_finite(name: str, stored: NDArray[Any], dtype: str) -> None:
    """Refuse what overflowed while it was made.

    Raises:
        UserError: a number of the stored array is infinite or none at all.
    """
    if dtype == "BF16":
        finite = not ((stored & np.uint16(_BF16_EXPONENT)) == np.uint16(_BF16_EXPONENT)).any()
    else:
        finite = bool(np.isfinite(stored).all())
    if not finite:
        raise UserError(
            f"{name} would hold numbers that {TORCH_NAMES[dtype]} cannot",
            hint="Export with --dtype float32 or bfloat16; if that does not help, the base's own weight is damaged.",
        )


@dataclass(frozen=True)
class Vector:
    """A small tensor that is held in memory."""

    shape: tuple[int, ...]
    dtype: str
    content: bytes


def vector(name: str, values: NDArray[np.float32], dtype: str) -> Vector:
    """`values` as they will be stored under `name`.

    Raises:
        UserError: `dtype` cannot hold them.
    """
    stored = from_float32(values, dtype)
    require_finite(name, stored, dtype)
    return Vector(values.shape, dtype, stored.tobytes())
