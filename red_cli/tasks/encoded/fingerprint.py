"""The fingerprint of an encoded split: equal only if rows, tokenizer, settings and code are."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel
from transformers import PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

import red_cli
from red_cli.errors import first_line
from red_cli.recipe.sections import Data
from red_cli.tasks.base import Encoder
from red_cli.tasks.data.rows import CHUNK_ROWS, Rows
from red_cli.tasks.data.splits import Source

_LIBRARIES = ("tokenizers", "transformers", "jinja2")
_ROOMS = ("tasks", "recipe")  # whose code makes tokens of rows
# Where rows come from is not what they are. A model's configuration takes no part in the encoding.
_NOT_ENCODED = (Source, PretrainedConfig)
_PLACES = ("path", "name", "revision", "train", "validation", "test", "splits", "streaming")  # keys of Data
_TELLS_THE_DATE = "strftime_now"  # a function of chat templates


class NoFingerprint(Exception):
    """An encoder holds something whose content is not known."""


class _Hash:
    """A hash of values, each with its type and length, so that different ones never run together."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=20)

    def add(self, kind: str, content: bytes) -> None:
        self._hash.update(f"{kind} {len(content)} ".encode())
        self._hash.update(content)

    def write(self, content: bytes) -> None:
        """Add a part of a stream, as a file does."""
        self._hash.update(content)

    @property
    def closed(self) -> bool:
        return False

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def encoder_fingerprint(encoder: Encoder) -> str:
    """The fingerprint of all that decides how `encoder` encodes rows: 40 hexadecimal digits.

    Raises:
        NoFingerprint: the encoder holds something whose content is not known.
    """
    found = _Hash()
    _add(found, [red_cli.__version__, [version(name) for name in _LIBRARIES], code_digest(_ROOMS), encoder])
    return found.hexdigest()


def fingerprint(encoder: str, rows: Rows) -> str:
    """The fingerprint of encoded rows, by the fingerprint of their encoder: 40 hexadecimal digits.

    Raises:
        NoFingerprint: the rows hold something that Arrow does not write.
    """
    found = _Hash()
    # Notes on rows name their file and numbers
    _add(found, [encoder, *(getattr(rows, field.name) for field in fields(rows) if field.name != "table")])
    try:
        with pa.ipc.new_stream(pa.PythonFile(found, mode="w"), rows.table.schema) as writer:
            writer.write_table(rows.table, max_chunksize=CHUNK_ROWS)
    except pa.ArrowException as error:
        raise NoFingerprint(first_line(error)) from None
    return found.hexdigest()


def _add(found: _Hash, value: Any) -> None:
    """Add a value and all that it holds."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, _NOT_ENCODED):
        return
    if isinstance(value, PreTrainedTokenizerBase):
        found.add(name, _tokenizer(value).encode())
    elif isinstance(value, str):
        found.add("str", value.encode("utf-8", "surrogatepass"))
        if _TELLS_THE_DATE in value:
            found.add("date", date.today().isoformat().encode())
    elif value is None or isinstance(value, bool | int | float | bytes | Path):
        found.add(name, repr(value).encode())
    elif isinstance(value, Mapping):
        _add_parts(found, "mapping", [part for item in sorted(value.items(), key=repr) for part in item])
    elif isinstance(value, list | tuple):
        _add_parts(found, "list", list(value))
    elif isinstance(value, set | frozenset):
        _add_parts(found, "set", sorted(value, key=repr))
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        found.add(f"{value.dtype.str} {value.shape}", np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Data):
        _add_parts(found, name, [value.model_dump(exclude=set(_PLACES))])
    elif isinstance(value, BaseModel):
        _add_parts(found, name, [value.model_dump()])
    elif is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.compare]
        _add_parts(found, name, [part for each in names for part in (each, getattr(value, each))])
    elif isinstance(value, partial):
        _add_parts(found, "partial", [value.func, value.args, value.keywords])
    elif isinstance(value, type) or (inspect.isfunction(value) and not value.__closure__):
        found.add(name, f"{value.__module__}.{value.__qualname__}".encode())
    else:
        raise NoFingerprint(f"a {name}")


def _add_parts(found: _Hash, kind: str, parts: list[Any]) -> None:
    """Add a compound value to the hash: its kind, the number of its parts, and each part."""
    found.add(kind, str(len(parts)).encode())
    for part in parts:
        _add(found, part)


def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """The digest of a tokenizer: of its steps and vocabulary, its own settings and its chat template."""
    found = _Hash()
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()  # what the last call set takes no part; each call sets its own
        backend.no_padding()
        found.add("steps", backend.to_str().encode())
    else:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    found.add(path.name, path.read_bytes())
    sides = [tokenizer.padding_side, tokenizer.truncation_side, tokenizer.split_special_tokens]
    about = [tokenizer.special_tokens_map, tokenizer.model_input_names, sides, tokenizer.chat_template]
    _add(found, [about, _source(type(tokenizer))])
    return found.hexdigest()


def _source(kind: Callable[..., Any]) -> str | None:
    """The code of a tokenizer that comes with its model; None for a library's."""
    if not kind.__module__.startswith("transformers_modules"):
        return None
    return inspect.getsource(inspect.getmodule(kind) or kind)


@cache
def code_digest(rooms: tuple[str, ...]) -> str:
    """The part of a fingerprint for code: a digest of these rooms, equal only if their code is."""
    found = _Hash()
    root = Path(red_cli.__file__).parent
    for room in rooms:
        for path in sorted((root / room).rglob("*.py")):
            found.add(str(path.relative_to(root)), path.read_bytes())
    return found.hexdigest()
