"""Encoded splits as Arrow files: written whole, and read as views of a memory map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from red_cli.tasks.base import Encoded
from red_cli.tasks.data.disk_cache import Damaged
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.texts import TextMaker, TextsOfRows
from red_cli.tasks.text.encoded_texts import EncodedTexts

_CLASSES = {kind.__name__: kind for kind in (Encoded, EncodedTexts)}
_ABOUT = b"red"  # the key of the file's metadata


class NotStorable(Exception):
    """An encoded split holds something that a file has no form for."""


def write(encoded: Encoded, rows: Rows, path: Path) -> None:
    """Write an encoded split; `rows` are those that were encoded, and are not written.

    Raises:
        NotStorable: it holds something that a file has no form for.
        OSError: the file cannot be written.
    """
    if type(encoded) not in _CLASSES.values():
        raise NotStorable(f"a {type(encoded).__name__}")
    columns: dict[str, Any] = {}
    about: dict[str, Any] = {"class": type(encoded).__name__, "values": {}, "of_rows": [], "mappings": []}
    about |= {"bool": [], "tuples": []}
    for field in fields(encoded):
        name, value = field.name, getattr(encoded, field.name)
        if isinstance(value, np.ndarray):
            columns[name] = value
        elif isinstance(value, Mapping) and value and all(isinstance(part, np.ndarray) for part in value.values()):
            about["mappings"].append(name)
            columns |= {f"{name}.{key}": part for key, part in value.items()}
        elif isinstance(value, Rows):
            if value is not rows and (encoded.kept is None or len(encoded.kept) != value.table.num_rows):
                raise NotStorable("other rows than those that were encoded")
            about["rows"] = "all" if value is rows else "kept"
        elif isinstance(value, TextsOfRows):
            about["of_rows"].append(name)
        elif isinstance(value, tuple):
            about["tuples"].append(name)
            about["values"][name] = list(value)
        elif json.loads(json.dumps(value, default=repr)) == value:
            about["values"][name] = value
        else:
            raise NotStorable(f"{name}: a {type(value).__name__}")
    for name, value in columns.items():
        if isinstance(value, np.ndarray):
            if value.dtype == np.bool_:  # Arrow packs them into bits, of which numpy has no view
                about["bool"].append(name)
                value = value.view(np.uint8)
            columns[name] = pa.array(value)
    arrays = [pa.LargeListArray.from_arrays(pa.array([0, len(array)]), array) for array in columns.values()]
    batch = pa.record_batch(arrays, names=list(columns))
    schema = batch.schema.with_metadata({_ABOUT: json.dumps(about).encode()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def read(stored: memoryview, rows: Rows, makers: Mapping[str, TextMaker]) -> Encoded:
    """The encoded split of a file, whose arrays are views of its memory map.

    Args:
        rows: the rows that were encoded.
        makers: how the encoder makes texts from rows, by the names of their fields.

    Raises:
        Damaged: the file is not what was written.
    """
    try:
        reader = pa.ipc.open_file(pa.py_buffer(stored))
        batch = reader.get_batch(0)
        about = json.loads(reader.schema.metadata[_ABOUT])
        arrays = {name: batch.column(name).values for name in reader.schema.names}
        values: dict[str, Any] = {**about["values"], **{name: {} for name in about["mappings"]}}
        values |= {name: tuple(values[name]) for name in about["tuples"]}
        for name, array in arrays.items():
            field, _, key = name.partition(".")
            found = array.to_numpy(zero_copy_only=True)
            found = found.view(np.bool_) if name in about["bool"] else found
            if key:
                values[field][key] = found
            else:
                values[field] = found
        if "rows" in about:
            values["rows"] = rows if about["rows"] == "all" else rows.take(values["kept"].tolist())
        values |= {name: TextsOfRows(values["rows"], makers[name], values.get("numbers")) for name in about["of_rows"]}
        return _CLASSES[about["class"]](**values)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from None
