"""Plan every tensor of the exported model: its name, dtype, and the source of its values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from red_cli.base_model.base_files import SINGLE_FILE, BaseFiles
from red_cli.base_model.edited_modules import EditedModule, EditedModules, as_loaded
from red_cli.base_model.stored_tensor import SIZES, StoredTensor, StoredVector, is_float, stored_vector, to_float32
from red_cli.edit.architectures import architecture_of
from red_cli.errors import UserError
from red_cli.export.adapter_arrays import AdapterArrays, Edit
from red_cli.export.bias_placement import BiasPlacement

_MATRIX = 2


@dataclass(frozen=True)
class ExportedTensor:
    """A tensor to write, with its edit still to be folded.

    Attributes:
        dtype: safetensors' name of the dtype that is written.
        content: its current values: bytes in a file of the base, or in memory.
        scale: factors for its rows, shape (rows,), or its columns if `by_row` is False, shape (columns,).
    """

    name: str
    dtype: str
    content: StoredTensor | StoredVector
    scale: NDArray[np.float32] | None = None
    by_row: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.content.shape

    @property
    def size(self) -> int:
        """The size in bytes."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count * SIZES[self.dtype] if self.dtype in SIZES else self._stored_size

    @property
    def _stored_size(self) -> int:
        assert isinstance(self.content, StoredTensor)
        return self.content.size

    @property
    def copied(self) -> StoredTensor | None:
        """The stored tensor whose bytes are copied unchanged, or None."""
        unchanged = self.scale is None and isinstance(self.content, StoredTensor) and self.content.dtype == self.dtype
        return self.content if unchanged and isinstance(self.content, StoredTensor) else None


Shards = dict[str, list[ExportedTensor]]  # file name -> its tensors


def plan_tensors(
    base: BaseFiles,
    adapter: AdapterArrays,
    edited: EditedModules,
    placement: BiasPlacement,
    conv1d: bool,
    dtype: str | None,
) -> Shards:
    """Plan the tensors of the exported model.

    Args:
        placement: where biases are stored that the base has no parameter for.
        conv1d: whether the architecture's projections have shape (in, out).
        dtype: safetensors' name of the dtype of all floating-point tensors; None keeps the base's.

    Raises:
        UserError: an edited tensor is quantised or has another width than its edit.
    """
    shards: Shards = {}
    by_tensor = {name: (module, role) for module in edited.modules for name, role in _roles(module)}
    names = {name: (edited.prefix if adapter.head else "") + name for name in base.tensors}
    for name, stored in base.tensors.items():
        written = dtype if dtype and is_float(stored.dtype) else stored.dtype
        outputs = shards.setdefault(stored.file.with_suffix(".safetensors").name, [])
        if name not in by_tensor:
            outputs.append(ExportedTensor(names[name], written, stored))
            continue
        module, role = by_tensor[name]
        edit = adapter.edits[module.path]
        columns = conv1d and len(stored.shape) == _MATRIX and stored.shape[-1] == _width(edit)
        _require_fit(base, name, stored, edit, columns)
        output = ExportedTensor(names[name], written, stored)
        outputs.append(_folded_weight(output, edit, columns) if role == "weight" else _folded_bias(output, edit))
        if role == "weight" and module.bias is None and edit.bias is not None:
            outputs.append(
                ExportedTensor(
                    f"{names[name].rpartition('.')[0]}.bias", written, stored_vector(module.path, edit.bias, written)
                )
            )
    if placement.as_llama:
        shards = {file: list(_split(outputs, base)) for file, outputs in shards.items()}
    _add_zero_biases(shards, placement)
    return shards


def add_tensors(shards: Shards, arrays: Mapping[str, NDArray[np.float32]], dtype: str) -> Shards:
    """Add tensors (a trained head, biases) to the last shard of folded tensors, or replace those of the same names."""
    added = {file: [output for output in outputs if output.name not in arrays] for file, outputs in shards.items()}
    added[max(added)] += [
        ExportedTensor(name, dtype, stored_vector(name, array, dtype)) for name, array in arrays.items()
    ]
    return added


def keep_known(shards: Shards, known: set[str]) -> Shards:
    """Plan only the folded tensors whose names the exported model has; a file left empty is omitted."""
    kept = {file: [output for output in outputs if as_loaded(output.name) in known] for file, outputs in shards.items()}
    return {file: outputs for file, outputs in kept.items() if outputs}


def main_dtype(base: BaseFiles, edited: EditedModules) -> str:
    """safetensors' name of the dtype of the folded weights."""
    return base.tensors[edited.modules[0].weight].dtype


def named_for_loading(shards: Shards) -> Shards:
    """The folded tensors with their single file named as transformers expects; several files keep their names."""
    return shards if len(shards) > 1 else {SINGLE_FILE: next(iter(shards.values()))}


def _roles(module: EditedModule) -> Iterator[tuple[str, str]]:
    """Yield the folded tensor names of an edited module, each with its role: weight or bias."""
    yield module.weight, "weight"
    if module.bias is not None:
        yield module.bias, "bias"


def _require_fit(base: BaseFiles, name: str, stored: StoredTensor, edit: Edit, columns: bool) -> None:
    """Check that an edit can be folded into a stored tensor: its dtype, its width and its kind of norm."""
    if not is_float(stored.dtype):
        raise UserError(
            "unsupported-file",
            f"{stored.file}: {name} is stored as {stored.dtype}: {base.name} is quantised",
            hint="Give the unquantised model it was made from: --base MODEL",
        )
    width = stored.shape[-1] if columns else stored.shape[0]
    if width != _width(edit):
        raise UserError(
            "base-mismatch",
            f"{base.folder}: {name} has width {width}, its edit {_width(edit)}",
            hint="The adapter belongs to another base.",
        )
    if len(stored.shape) < _MATRIX and architecture_of(base.model_type).one_plus_norm and edit.scale is not None:
        raise UserError(
            "unsupported-model",
            f"{name} is a norm of a {base.model_type} model, which scales by (1 + weight): its edit cannot be folded",
            hint="Keep it as an adapter: --format adapter",
        )


def _width(edit: Edit) -> int:
    """The width of an edit: the length of its scale or bias."""
    either = edit.scale if edit.scale is not None else edit.bias
    assert either is not None
    return len(either)


def _folded_weight(output: ExportedTensor, edit: Edit, columns: bool) -> ExportedTensor:
    """The exported tensor of a folded weight: W' = diag(scale) W, by equation (3) of the paper."""
    if edit.scale is None:
        return output
    if len(output.shape) == _MATRIX:
        return replace(output, scale=edit.scale, by_row=not columns)
    values = _read(output).reshape(output.shape) * edit.scale
    return replace(output, content=stored_vector(output.name, values, output.dtype))


def _folded_bias(output: ExportedTensor, edit: Edit) -> ExportedTensor:
    """The folded bias b' = scale * b + bias."""
    values = _read(output)
    if edit.scale is not None:
        values = values * edit.scale
    if edit.bias is not None:
        values = values + edit.bias
    return replace(output, content=stored_vector(output.name, values, output.dtype))


def _read(output: ExportedTensor) -> NDArray[np.float32]:
    """Read the stored values of an exported tensor as float32."""
    assert isinstance(output.content, StoredTensor)
    return to_float32(output.content.read(), output.content.dtype)


def _add_zero_biases(shards: Shards, placement: BiasPlacement) -> None:
    """Add zero biases among the folded tensors of modules that get a bias because an edited module does."""
    pattern = re.compile("|".join(rf"(?:.*\.)?(?:{ending})" for ending in placement.also_biased) or r"(?!)")
    present = {output.name for outputs in shards.values() for output in outputs}
    for file, outputs in shards.items():
        for output in list(outputs):
            module, _, kind = output.name.rpartition(".")
            if kind == "weight" and f"{module}.bias" not in present and pattern.fullmatch(module):
                zeros = stored_vector(output.name, np.zeros(output.shape[0], dtype=np.float32), output.dtype)
                shards[file].append(ExportedTensor(f"{module}.bias", output.dtype, zeros))


def _split(outputs: list[ExportedTensor], base: BaseFiles) -> Iterator[ExportedTensor]:
    """Split folded tensors of fused projections into those of LLaMA."""
    llama = architecture_of(base.model_type).as_llama
    fused = {} if llama is None else llama.split
    for output in outputs:
        module, _, kind = output.name.rpartition(".")
        parent, _, last = module.rpartition(".")
        if last not in fused:
            yield output
            continue
        first = 0
        for name, rows in zip(fused[last], _extents(base, fused[last], output.shape[0]), strict=True):
            yield _rows(output, f"{parent}.{name}.{kind}", first, first + rows)
            first += rows


def _extents(base: BaseFiles, names: tuple[str, ...], rows: int) -> list[int]:
    """Plan the tensor of a fused projection: the number of rows of each of its parts."""
    heads = base.config["num_attention_heads"]
    head = base.config.get("head_dim") or base.config["hidden_size"] // heads
    keys = (base.config.get("num_key_value_heads") or heads) * head
    return [heads * head, keys, keys] if "q_proj" in names else [rows // len(names)] * len(names)


def _rows(output: ExportedTensor, name: str, first: int, last: int) -> ExportedTensor:
    """The exported tensor that holds these rows of a fused one, with their part of the scale."""
    scale = None if output.scale is None else output.scale[first:last]
    if isinstance(output.content, StoredTensor):
        return ExportedTensor(name, output.dtype, output.content.rows(first, last), scale)
    size = SIZES[output.dtype]
    part = output.content.content[first * size : last * size]
    return ExportedTensor(name, output.dtype, StoredVector((last - first,), output.dtype, part))
