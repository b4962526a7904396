"""Digests of a base's files, to detect changes since a training."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.base_model.base_files import BaseFiles, json_or_none, read_base, stored_chat_template
from red_cli.base_model.edited_modules import EditedModules, find_edited_modules
from red_cli.base_model.hub import commit_of, model_folder
from red_cli.base_model.stored_tensor import StoredTensor
from red_cli.edit.recorded_base import BaseDigest
from red_cli.errors import UserError
from red_cli.files import file_sha256, read_json
from red_cli.recipe.methods import METHODS, MethodName
from red_cli.recipe.sections import Model

# Keys of config.json that differ between savings of the same model
_UNSTEADY = ("transformers_version", "_name_or_path", "architectures", "torch_dtype", "dtype")
_BLOCK = 4 << 20
_BUFFER_DTYPES = ("I64", "I32", "I16", "BOOL")  # dtypes of position and mask buffers
_BUFFERS = ("inv_freq", "masked_bias")
_MOST_DIMENSIONS_OF_A_BIAS = 2  # GPT-2's attention masks are called bias too, and have four dimensions
# Evenly spread samples of a tensor; they include its first and its last byte
_SAMPLES, _SAMPLE_BYTES = 16, 16 << 10
# Files of a tokenizer. Those of the second list count only without tokenizer.json, which has the same content.
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_OLDER_TOKENIZER_FILES = ("vocab.json", "vocab.txt", "merges.txt", "*.model", "*.spm", "*.tiktoken")
_UNSTEADY_TOKENIZER = (
    "transformers_version", "name_or_path", "tokenizer_file", "special_tokens_map_file", "backend", "is_local",
    "local_files_only", "chat_template",
)  # fmt: skip


def base_digest(base: BaseFiles, edited: EditedModules) -> BaseDigest:
    """Digest the configuration, the tokenizer, samples of all weights, and every byte of the edited tensors."""
    stored = [base.tensors[name] for name in edited.tensor_names]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = dict(zip(edited.tensor_names, pool.map(_tensor_digest, stored), strict=True))
    return sampled_digest(base).model_copy(update={"tensors": _joined(base, digests)})


def sampled_digest(base: BaseFiles) -> BaseDigest:
    """The digest of a base without edited tensors: `tensors` is None.

    Tensor names and repeated tensors do not count: the digest is the same whether files hold tied weights once or
    twice, and with or without the class's prefix.
    """
    stored = [stored for name, stored in base.tensors.items() if _is_weight(name, stored)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        samples = zip(stored, pool.map(_sample_digest, stored), strict=True)
        lines = sorted({f"{tensor.dtype} {tensor.shape} {digest}" for tensor, digest in samples})
    weights = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return file_digest(base.folder, base.config).model_copy(update={"weights": weights})


def _is_weight(name: str, stored: StoredTensor) -> bool:
    """Whether a tensor is a parameter. Buffers do not count, since only some files hold them."""
    end = name.rpartition(".")[2]
    mask = end == "bias" and len(stored.shape) > _MOST_DIMENSIONS_OF_A_BIAS
    return stored.size > 0 and stored.dtype not in _BUFFER_DTYPES and end not in _BUFFERS and not mask


def file_digest(folder: Path, config: Mapping[str, Any]) -> BaseDigest:
    """The digest of configuration and tokenizer alone."""
    return BaseDigest(config=config_digest(config), tokenizer=tokenizer_digest(folder))


def changed_parts(name: str, folder: Path, then: BaseDigest, edited: Iterable[str] = ()) -> list[str]:
    """Which parts of the base `name` in `folder` differ from `then`: configuration, weights, tokenizer.

    Args:
        edited: paths of edited modules. Their tensors are compared in full if `then` has their digest.

    Raises:
        UserError: the files cannot be read.
    """
    edited = list(edited)
    now = file_digest(folder, _config(folder))
    if then.weights is not None or (then.tensors is not None and edited):
        base = read_base(name, folder)
        compare_edited = then.tensors is not None and bool(edited)
        now = base_digest(base, find_edited_modules(base, edited)) if compare_edited else sampled_digest(base)
    compared = {
        "configuration": (now.config, then.config),
        "weights": ((now.tensors, now.weights), (then.tensors, then.weights)),
        "tokenizer": (now.tokenizer, then.tokenizer),
    }
    return [part for part, (new, old) in compared.items() if _differs(new, old)]


def _differs(now: Any, then: Any) -> bool:
    """Whether a base's digest changed since a training; a missing digest (None) counts as unchanged."""
    if isinstance(then, tuple):
        return any(_differs(*pair) for pair in zip(now, then, strict=True))
    return now is not None and then is not None and now != then


def config_digest(config: Mapping[str, Any]) -> str:
    """The digest of config.json's content."""
    steady = {key: value for key, value in config.items() if key not in _UNSTEADY}
    return _json_digest(steady)


def tokenizer_digest(folder: Path) -> str | None:
    """The digest of a tokenizer's files and chat template; None if there are none.

    JSON files are compared by content. A template counts the same in its own file and in the configuration.
    """
    files = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if not (folder / _TOKENIZER_FILES[0]).is_file():
        files += sorted(file for pattern in _OLDER_TOKENIZER_FILES for file in folder.glob(pattern))
    if not files:
        return None
    parts: dict[str, Any] = {"chat_template": stored_chat_template(folder)}
    for file in files:
        content = json_or_none(file)
        if isinstance(content, dict):
            parts[file.name] = {key: value for key, value in content.items() if key not in _UNSTEADY_TOKENIZER}
        else:
            parts[file.name] = file_sha256(file)
    return _json_digest(parts)


def _config(folder: Path) -> dict[str, Any]:
    """The content of config.json for the digest of a base; empty if it is not an object."""
    content = read_json(folder / "config.json")
    return content if isinstance(content, dict) else {}


def _json_digest(content: Any) -> str:
    """Digest the JSON content of a base's file with SHA-256, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _joined(base: BaseFiles, digests: Mapping[str, str]) -> str:
    """One digest of all edited tensors of a base: their names, dtypes, shapes and own digests."""
    lines = [
        f"{name} {base.tensors[name].dtype} {base.tensors[name].shape} {digests[name]}" for name in sorted(digests)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _tensor_digest(stored: StoredTensor) -> str:
    """The digest of every byte of a stored tensor of the base."""
    return _digest_of(stored, [(0, stored.size)])


def _sample_digest(stored: StoredTensor) -> str:
    """The digest of a tensor's samples, or of all of a small tensor."""
    if stored.size <= _SAMPLES * _SAMPLE_BYTES:
        return _tensor_digest(stored)
    step = (stored.size - _SAMPLE_BYTES) / (_SAMPLES - 1)
    return _digest_of(stored, [(round(number * step), _SAMPLE_BYTES) for number in range(_SAMPLES)])


def _digest_of(stored: StoredTensor, pieces: list[tuple[int, int]]) -> str:
    """The digest of pieces of a tensor, each given as (offset, size) in bytes."""
    digest, block = hashlib.sha256(), bytearray(_BLOCK)
    with stored.file.open("rb", buffering=0) as file:
        for offset, left in pieces:
            file.seek(stored.start + offset)
            while left and (count := file.readinto(memoryview(block)[:left])):
                digest.update(memoryview(block)[:count])
                left -= count
    return digest.hexdigest()


_ORIGINAL_BASE = "Name the original base: model.name_or_path=FOLDER, or model.revision for one from the Hub."


@dataclass(frozen=True)
class BaseRecord:
    """A base's revision on the Hub and the digest of its content; None where unknown."""

    revision: str | None
    digest: BaseDigest | None


def take_digest(model: Model, method: MethodName, paths: list[str]) -> BaseRecord:
    """Take the digest of a base's configuration, weights and tokenizer, to detect changes later.

    The base has been loaded before, so no network is used.
    The digest has fewer parts for a base that edits cannot be folded into (8-bit weights, an old pickle).

    Args:
        paths: paths of the modules that RED edits.
    """
    name, revision = model.name_or_path, model.revision
    folder = model_folder(name, revision)
    if folder is None:
        return BaseRecord(revision, None)
    revision = commit_of(folder) or revision
    config = read_json(folder / "config.json")
    files = file_digest(folder, config if isinstance(config, dict) else {})
    if METHODS[method].base_parameters == "all":  # the trained files hold every parameter
        return BaseRecord(revision, files)
    try:
        base = read_base(name, folder)
    except UserError:
        return BaseRecord(revision, files)
    try:
        digest = base_digest(base, find_edited_modules(base, paths)) if METHODS[method].edits else sampled_digest(base)
    except UserError:
        digest = sampled_digest(base)
    return BaseRecord(revision, digest)


def require_same_digest(
    name: str, revision: str | None, then: BaseDigest | None, trained: Path, hint: str = _ORIGINAL_BASE
) -> None:
    """Check that a base has the same digest as at a training, if its files are available.

    Args:
        then: the digest recorded by the training; None (files of version 0.1) skips the check.
        hint: how the user can give the original base.

    Raises:
        UserError: the configuration, weights or tokenizer have changed; the message names which.
    """
    folder = None if then is None else model_folder(name, revision)
    if then is None or folder is None:
        return
    if changed := changed_parts(name, folder, then):
        raise UserError(
            "base-changed",
            f"the {' and the '.join(changed)} of {name} changed since {trained} was trained on it",
            hint=hint,
        )
