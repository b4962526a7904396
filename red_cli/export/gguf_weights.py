"""The weights of a LLaMA in a GGUF file: names and order as llama.cpp reads them, written and compared one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from red_cli.base_model.base_files import BaseFiles
from red_cli.base_model.stored_tensor import SIZES, StoredTensor, from_float32, to_float32
from red_cli.errors import RunFailed, UserError

_MATRIX = 2
_NAMES = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
# llama.cpp's graph of a LLaMA adds the bias of every projection: src/llama-model.cpp, LLM_ARCH_LLAMA
_OF_LAYERS = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")
_COMPUTED = re.compile(r"(?:.*\.)?rotary_emb\.inv_freq")


@dataclass(frozen=True)
class GgufTensor:
    """The weights of one tensor as a GGUF file has them.

    Attributes:
        stored: its values in the merged weights.
        heads: the number of heads whose rows llama.cpp rotates in another order; None keeps the order.
    """

    name: str
    stored: StoredTensor
    heads: int | None

    @property
    def dtype(self) -> str:
        """safetensors' name of its dtype: llama.cpp reads vectors as float32."""
        return self.stored.dtype if len(self.stored.shape) == _MATRIX and self.stored.dtype != "F64" else "F32"

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.stored.shape)) * SIZES[self.dtype]

    def values(self) -> NDArray[np.float32]:
        """The merged weights' values, in their own order and shape."""
        return to_float32(self.stored.read(), self.stored.dtype).reshape(self.stored.shape)

    def reordered(self, values: NDArray[np.float32], back: bool = False) -> NDArray[np.float32]:
        """Rows in llama.cpp's order: the two halves of each head alternate. `back` undoes it."""
        if self.heads is None:
            return values
        half = values.shape[0] // self.heads // 2
        parts = (half, 2) if back else (2, half)
        return values.reshape(self.heads, *parts, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def gguf_tensors(model: BaseFiles) -> list[GgufTensor]:
    """The tensors of a merged LLaMA by GGUF's names.

    Raises:
        UserError: it has a tensor that llama.cpp's LLaMA does not read.
    """
    config = model.config
    rotated = {"attn_q": config["num_attention_heads"]}
    rotated["attn_k"] = config.get("num_key_value_heads") or config["num_attention_heads"]
    found = []
    for name, stored in model.tensors.items():
        if _COMPUTED.fullmatch(name) or (name == "lm_head.weight" and config.get("tie_word_embeddings")):
            continue
        part, heads = _name_of(name.removeprefix("model.")), None
        if part is None:
            raise UserError("unsupported-model", f"{name} has no place in a GGUF file of a LLaMA")
        if part.startswith("blk."):
            heads = rotated.get(part.split(".")[2])
        found.append(GgufTensor(part, stored, heads))
    needed = ["token_embd", "output_norm", *(f"blk.0.{part}" for part in _OF_LAYERS.values())]
    if missing := [name for name in needed if f"{name}.weight" not in {tensor.name for tensor in found}]:
        raise UserError("unsupported-model", f"the weights of {model.name} have no {missing[0]}, which a LLaMA has")
    return found


def _name_of(name: str) -> str | None:
    """GGUF's name of a tensor; None if a LLaMA has none of this name."""
    layer = _LAYER.fullmatch(name)
    if layer is None:
        return _NAMES.get(name)
    return f"blk.{layer[1]}.{_OF_LAYERS[layer[2]]}.{layer[3]}" if layer[2] in _OF_LAYERS else None


def rope_factors(config: Mapping[str, Any], width: int) -> NDArray[np.float32] | None:
    """By what llama.cpp divides the frequencies of a LLaMA with rope type llama3, shape (width / 2,); None for others.

    The formula is transformers' `_compute_llama3_parameters`.
    """
    rope = config["rope_parameters"]
    if rope["rope_type"] != "llama3":
        return None
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    lengths = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float64) / width)
    smooth = np.clip((original / lengths - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def add_tensor_infos(writer: Any, tensors: list[GgufTensor]) -> None:
    """Announce the weights to a GGUFWriter."""
    import gguf

    for tensor in tensors:
        kind = gguf.GGMLQuantizationType[tensor.dtype]
        # Without raw_dtype gguf takes numpy's, and numpy has no bfloat16; shapes are then those of the bytes.
        shape = (*tensor.stored.shape[:-1], tensor.stored.shape[-1] * SIZES[tensor.dtype])
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), tensor.size, raw_dtype=kind)


def written_bytes(tensor: GgufTensor) -> NDArray[np.uint8]:
    """The bytes of a tensor as a GGUF file holds them."""
    stored = from_float32(np.ascontiguousarray(tensor.reordered(tensor.values())), tensor.dtype)
    return np.frombuffer(stored.tobytes(), dtype=np.uint8)


def require_equal_tensors(file: Path, tensors: list[GgufTensor]) -> None:
    """Read a GGUF file back and check that every weight is that of the merged model.

    Raises:
        RunFailed: a tensor is missing, or a value differs.
    """
    import gguf

    read = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    for expected in tensors:
        found = read.get(expected.name)
        if found is None or found.tensor_type.name != expected.dtype or not _equal(expected, found.data.tobytes()):
            raise RunFailed(
                "verification-failed", f"{expected.name} of the GGUF file is not the merged weight; nothing was written"
            )


def _equal(expected: GgufTensor, raw: bytes) -> bool:
    """Whether the bytes of a tensor in a GGUF file hold the merged model's values."""
    values = to_float32(raw, expected.dtype)
    if values.size != np.prod(expected.stored.shape):
        return False
    return np.array_equal(expected.reordered(values.reshape(expected.stored.shape), back=True), expected.values())
