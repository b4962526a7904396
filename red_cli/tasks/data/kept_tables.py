"""Tables that were read from files, kept in the cache: a second start maps them into memory instead of parsing text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

import red_cli
from red_cli.tasks.data.disk_cache import SMALLEST, Damaged, DiskCache
from red_cli.tasks.data.rows import CHUNK_ROWS, Rows

_PARSED = (".jsonl", ".json", ".csv", ".tsv", ".gz", ".xlsx")  # endings of files that take long to read
_ABOUT = b"red rows"  # the key of the file's metadata
_ARRAYS = ("table", "source_indices")
_STEP = 2**24  # bytes that are hashed at once


def read_once(paths: Sequence[Path], settings: object, read: Callable[[], Rows]) -> Rows:
    """`read()`, or what an earlier reading of files with the same names and content has left in the cache.

    Small files, and those that are columns already, are always read.

    Args:
        settings: what else decides how the files are read; its repr says all of it.

    Raises:
        UserError: as `read`; or $RED_CACHE_GIB is not a number.
    """
    try:
        if any(path.suffix.lower() not in _PARSED for path in paths) or sum(map(_size, paths)) < SMALLEST:
            return read()
        cache = DiskCache.of_user()
        key = _fingerprint(paths, settings) if cache.limit else ""
    except OSError:
        return read()
    if not key:
        return read()
    if (found := _kept(cache, key)) is not None:
        return found
    rows = None
    try:
        with cache.writing(key):
            if (found := _kept(cache, key)) is not None:
                return found
            rows = read()
            cache.write(key, partial(_write, rows))
    except (OSError, pa.ArrowException):
        return read() if rows is None else rows
    rows = None
    pa.default_memory_pool().release_unused()  # the file takes the place of what was parsed
    return _kept(cache, key) or read()


def _size(path: Path) -> int:
    """The size in bytes of a file whose table may be kept in the cache."""
    return path.stat().st_size


def _fingerprint(paths: Sequence[Path], settings: object) -> str:
    """The fingerprint of files and of the code that reads them, 40 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=20)
    code = sorted(Path(__file__).parent.glob("*.py"))
    found.update(repr([red_cli.__version__, pa.__version__, settings, [str(path) for path in paths]]).encode())
    for path in (*code, *paths):
        found.update(f"\n{path.stat().st_size} ".encode())
        with path.open("rb") as file:
            while part := file.read(_STEP):
                found.update(part)
    return found.hexdigest()


def _kept(cache: DiskCache, key: str) -> Rows | None:
    """The parsed tables of rows kept in the cache, as views of its file, or None."""
    try:
        stored = cache.open(key)
        if stored is None:
            return None
        reader = pa.ipc.open_file(pa.py_buffer(stored))
        about: dict[str, Any] = json.loads(reader.schema.metadata[_ABOUT])
        table = reader.read_all().replace_schema_metadata(None)
        indices = None
        if about.pop("numbered"):
            indices = table.column(table.num_columns - 1).to_numpy()
            table = table.remove_column(table.num_columns - 1)
        return Rows(table=table, source_indices=indices, **{name: _tuples(part) for name, part in about.items()})
    except Damaged:
        return None
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        cache.remove(key)
        return None


def _write(rows: Rows, path: Path) -> None:
    """Write rows and what is known of them to a file of the cache."""
    about = {field.name: getattr(rows, field.name) for field in fields(rows) if field.name not in _ARRAYS}
    table = rows.table
    if rows.source_indices is not None:
        table = table.append_column("", pa.array(rows.source_indices))
    about["numbered"] = rows.source_indices is not None
    schema = table.schema.with_metadata({_ABOUT: json.dumps(about).encode()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_table(table.replace_schema_metadata(schema.metadata), max_chunksize=CHUNK_ROWS)


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, as the fields of Rows have them for files."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
