"""Find the files of a base and the byte range of each tensor. Only headers are read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.base_model.stored_tensor import COPY_AGAIN, SAFETENSORS_NAMES, SIZES, StoredTensor
from red_cli.errors import UserError, first_line
from red_cli.files import read_json, require_inside

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
BIN_FILE, BIN_INDEX_FILE = "pytorch_model.bin", "pytorch_model.bin.index.json"
BIASES_KEY = "red_biases"  # key of config.json in models that have a modelling file written by red
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
_LENGTH_BYTES = 8  # a safetensors file starts with the length of its header
_LARGEST_HEADER = 100_000_000
_MODEL_TYPE = re.compile(r"[\w.-]+")
_OTHER_NAMES = {"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
_SAVE_AGAIN = "Load it with transformers, save it again as safetensors (save_pretrained), and name that: --base FOLDER"


@dataclass(frozen=True)
class BaseFiles:
    """A base on disk.

    Attributes:
        config: the content of config.json, unchanged.
        tensors: tensor name -> its byte range, in the order of shards and bytes.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]

    @property
    def shards(self) -> list[Path]:
        """The files that hold tensors, sorted by name."""
        return sorted({stored.file for stored in self.tensors.values()})

    @property
    def size(self) -> int:
        """The size of all tensors, in bytes."""
        return sum(stored.size for stored in self.tensors.values())

    @property
    def architecture(self) -> str | None:
        """The name of the model's class, or None where the configuration has none."""
        return next(iter(self.config.get("architectures") or ()), None)

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type"))


def read_base(name: str, folder: Path) -> BaseFiles:
    """Read the headers of the base `name` in `folder`: its safetensors files, or its .bin files if it has no others.

    Raises:
        UserError: a file is missing, damaged or a link to outside the folder, or the index names a tensor that no
            file holds.
    """
    config = _read_config(folder / "config.json")
    # transformers looks in the same order
    found = next(
        (name for name in (SINGLE_FILE, INDEX_FILE, BIN_FILE, BIN_INDEX_FILE) if (folder / name).is_file()), None
    )
    index = None
    if found in (SINGLE_FILE, BIN_FILE):
        shards = [folder / found]
    elif found is not None:
        index = read_index(require_inside(folder, folder / found))
        shards = [folder / shard for shard in sorted(set(index.values()))]
    else:
        raise UserError(
            "base-not-found", f"{folder} has no weights: neither {SINGLE_FILE} nor {INDEX_FILE}", hint=COPY_AGAIN
        )
    tensors = {key: stored for shard in shards for key, stored in _read_shard(require_inside(folder, shard))}
    if index is not None and (missing := sorted(index.keys() - tensors.keys())):
        raise UserError(
            "file-damaged",
            f"{folder / str(found)} names {missing[0]}, but {index[missing[0]]} does not hold it",
            hint=COPY_AGAIN,
        )
    return BaseFiles(name, folder, config, tensors)


def stored_chat_template(folder: Path) -> Any:
    """The chat template among a base's files: in a file of its own, else in tokenizer_config.json; None without one."""
    for name in _TEMPLATE_FILES:
        file = folder / name
        if file.is_file():
            content = json_or_none(file)
            return content.get("chat_template") if isinstance(content, dict) else file.read_text("utf-8", "replace")
    content = json_or_none(folder / "tokenizer_config.json")
    return content.get("chat_template") if isinstance(content, dict) else None


def json_or_none(file: Path) -> Any:
    """The content of one of a base's files; None if the file is missing, or not JSON."""
    if file.suffix != ".json":
        return None
    try:
        return read_json(file)
    except UserError:
        return None


def _read_config(file: Path) -> dict[str, Any]:
    """Read the config.json among a base's files; model type and class names are checked to be plain names."""
    config = read_json(require_inside(file.parent, file))
    if not isinstance(config, dict) or "model_type" not in config:
        raise UserError("file-damaged", f"{file} is not a model's configuration: it has no model_type")
    if not isinstance(config["model_type"], str) or not _MODEL_TYPE.fullmatch(config["model_type"]):
        raise UserError("file-damaged", f"{file}: model_type {config['model_type']!r} is not the name of a model type")
    classes = config.get("architectures") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) and name.isidentifier() for name in classes):
        raise UserError("unsupported-model", f"{file}: architectures {classes!r} is not a list of class names")
    return config


def _read_shard(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Read the header of one of a base's weight files, safetensors or .bin: names and byte ranges of tensors."""
    if file.suffix != ".bin":
        return read_header(file)
    return read_bin(file)


def read_index(file: Path) -> dict[str, str]:
    """Read an index file: tensor name -> name of its shard.

    Raises:
        UserError: the file is not an index, or it names a file outside its folder.
    """
    content = read_json(file)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError("file-damaged", f"{file} is damaged: it has no weight_map", hint=COPY_AGAIN)
    for shard in weight_map.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise UserError("path-outside-folder", f"{file} names a file outside its folder: {shard!r}")
    return weight_map


def read_header(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    """Read the header of one of the base's files: yield (name, byte range) of each tensor, in byte order.

    Raises:
        UserError: the file is missing, or its header does not match its size.
    """
    if not file.is_file():
        raise UserError("file-not-found", f"{file} is missing", hint=COPY_AGAIN)
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if not 0 < length <= min(size - _LENGTH_BYTES, _LARGEST_HEADER):
            raise UserError("file-damaged", f"{file} is damaged: its header does not match its size", hint=COPY_AGAIN)
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            entries = [
                (key, value["dtype"], tuple(value["shape"]), *value["data_offsets"]) for key, value in header.items()
            ]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError("file-damaged", f"{file} is damaged: its header cannot be read", hint=COPY_AGAIN) from None
    begins = _LENGTH_BYTES + length
    end_of_all = begins
    for key, dtype, shape, start, end in sorted(entries, key=lambda entry: entry[3:5]):
        stored = StoredTensor(file, dtype, shape, begins + start, begins + end)
        numbers = 1
        for extent in shape:
            numbers *= extent
        if stored.start != end_of_all or stored.size != numbers * SIZES.get(dtype, stored.size / max(1, numbers)):
            raise UserError(
                "file-damaged", f"{file} is damaged: the byte range of {key} does not match its shape", hint=COPY_AGAIN
            )
        end_of_all = stored.end
        yield key, stored
    if end_of_all != size:
        kind = "cut short" if size < end_of_all else "longer than its tensors"
        raise UserError("file-damaged", f"{file} is {kind}: {size:,} bytes instead of {end_of_all:,}", hint=COPY_AGAIN)


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
