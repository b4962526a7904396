"""Columns as Arrow arrays of the types that tasks read; values that no one type holds are kept as JSON text.

A column that no task uses may therefore hold anything. Marks in a field's metadata say how its values are stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

_MARK = b"red"
_JSON, _DOUBLED = b"json", b"doubled"
TEXT = pa.large_string()  # a split may have more than 2 GB of text
_SCALARS = (({str}, TEXT), ({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64()))
_LISTS = tuple(
    kind
    for name in ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
    if (kind := getattr(pa.types, name, None)) is not None
)
_BYTES = tuple(
    kind
    for name in ("is_binary", "is_large_binary", "is_fixed_size_binary", "is_binary_view")
    if (kind := getattr(pa.types, name, None)) is not None
)
_MOST_INTEGER_DIGITS = 18  # that int64 holds


def table_of(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """A table of columns of Python values, as a JSON file has them; mixed columns become JSON text."""
    made = {name: _column(name, values) for name, values in columns.items()}
    return pa.table([array for _, array in made.values()], schema=pa.schema([field for field, _ in made.values()]))


def is_json(field: pa.Field) -> bool:
    """Whether the column's values are stored as JSON text."""
    return _marked(field) == _JSON


def is_doubled(field: pa.Field) -> bool:
    """Whether a column is marked, as JSON columns are, as the first of several of its name in the file."""
    return _marked(field) == _DOUBLED


def doubled(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table, its columns `names` marked, as JSON columns are, as the first of several with the name."""
    return _remarked(table, dict.fromkeys(names, _DOUBLED))


def values_of(column: pa.ChunkedArray, field: pa.Field) -> list[Any]:
    """The Python values of a column, decoded if it is stored as JSON text."""
    values = column.to_pylist()
    return [None if text is None else json.loads(text) for text in values] if is_json(field) else values


def first_kept_as_json(values: Sequence[Any]) -> int | None:
    """The index from which no one Arrow type holds a column, so that it is kept as JSON text; None if one does."""
    first = None
    for index, value in enumerate(values):
        kind = "text" if isinstance(value, str) else type(value)
        kind = float if kind is int else kind
        if kind in ("text", float, bool):
            first = first or kind
            if kind != first:
                return index
    return None


def first_broken(column: pa.ChunkedArray, field: pa.Field) -> int | None:
    """The index of a column's first JSON value with half of a surrogate pair, which no tokenizer takes, or None."""
    if is_json(field):
        for index, text in enumerate(column.to_pylist()):
            if text is not None and "\\ud" in text:
                try:
                    json.dumps(json.loads(text), ensure_ascii=False).encode()
                except UnicodeError:
                    return index
    return None


def joined_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables one after another as one: a missing column is null, and one of several types becomes JSON text."""
    marks, as_json = {}, []
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        fields = [table.field(name) for table in tables if name in table.column_names]
        if any(map(is_doubled, fields)):
            marks[name] = _DOUBLED
        if not _are_of_one_type(fields):
            as_json.append(name)
            marks.setdefault(name, _JSON)
    ready = [_with_json(table, [name for name in as_json if name in table.column_names]) for table in tables]
    return _remarked(pa.concat_tables(ready, promote_options="permissive"), marks)


def _column(name: str, values: Sequence[Any]) -> tuple[pa.Field, pa.Array]:
    """The field and Arrow array of a column; values that fit no one scalar type become JSON text."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.field(name, pa.null()), pa.nulls(len(values))
    for scalars, kind in _SCALARS:
        if kinds <= scalars:
            try:
                return pa.field(name, kind), pa.array(values, kind)
            except (pa.ArrowException, OverflowError, UnicodeError):  # a huge number, or half of a surrogate pair
                break
    return _marked_as(pa.field(name, TEXT), _JSON), _json_array(values)


def _json_array(values: Sequence[Any]) -> pa.Array:
    """The values as an Arrow array of JSON texts; nulls stay null."""
    texts = [None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in values]
    try:
        return pa.array(texts, TEXT)
    except UnicodeError:  # half of a surrogate pair
        return pa.array([None if value is None else json.dumps(value, default=str) for value in values], TEXT)


def _with_json(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with some of its columns as JSON text."""
    for name in names:
        place, field = table.column_names.index(name), table.field(name)
        if not is_json(field):
            array = _json_array(table.column(name).to_pylist())
            table = table.set_column(place, _marked_as(pa.field(name, TEXT), _JSON), array)
    return table


def _are_of_one_type(fields: Sequence[pa.Field]) -> bool:
    """Whether one Arrow type holds the columns of all tables, so that none becomes JSON text."""
    if any(map(is_json, fields)):
        return False
    kinds = dict.fromkeys(field.type for field in fields)
    try:
        pa.unify_schemas([pa.schema([("", kind)]) for kind in kinds], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def _marked(field: pa.Field) -> bytes | None:
    """The mark in a field's metadata that says how its values are stored; None if there is none."""
    return (field.metadata or {}).get(_MARK)


def _marked_as(field: pa.Field, mark: bytes) -> pa.Field:
    """The field with a mark in its metadata that says how its values are stored."""
    return field.with_metadata({**(field.metadata or {}), _MARK: mark})


def _remarked(table: pa.Table, marks: Mapping[str, bytes]) -> pa.Table:
    """The table with these marks on its columns, such as that values are kept as JSON text, and no others."""
    fields = [
        _marked_as(field, marks[field.name]) if field.name in marks else field.remove_metadata()
        for field in table.schema
    ]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields)) if fields else table


def plain(table: pa.Table) -> pa.Table:
    """The table with text as large strings, whole numbers as integers, and nested lists as lists.

    String views, dictionaries, run-end encoding, decimals, half-precision numbers, and bytes that are UTF-8 text are
    converted. Other types, such as dates, remain. Of several columns with one name the first remains, marked.
    """
    names = list(dict.fromkeys(table.column_names))
    columns = [table.column(table.column_names.index(name)) for name in names]
    made = pa.table([_plain_column(column) for column in columns], names=names) if names else table
    return doubled(made, [name for name in names if table.column_names.count(name) > 1])


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column cast to an Arrow type that tasks read; bytes that are not text stay as they are."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = column.type
    if pa.types.is_run_end_encoded(kind):
        chunks = [pa.compute.run_end_decode(chunk) for chunk in column.chunks]
        return _plain_column(pa.chunked_array(chunks, kind.value_type))
    wanted = _plain_type(kind)
    if wanted == kind:
        return column
    try:
        if "list_view" in str(kind):  # pyarrow 26 casts them to damaged lists
            raise pa.ArrowNotImplementedError
        return column.cast(wanted)
    except pa.ArrowNotImplementedError:
        return pa.chunked_array([pa.array(column.to_pylist(), wanted)])
    except pa.ArrowInvalid:  # bytes that are no text
        return column


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The Arrow type that tasks read in place of a given one, such as large lists for all lists."""
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_string_view(kind) or any(is_kind(kind) for is_kind in _BYTES):
        return TEXT
    if pa.types.is_decimal(kind):
        whole = kind.scale <= 0 and kind.precision - kind.scale <= _MOST_INTEGER_DIGITS
        return pa.int64() if whole else pa.float64()
    if pa.types.is_float16(kind):
        return pa.float32()
    if any(is_kind(kind) for is_kind in _LISTS):
        return pa.large_list(_plain_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    return kind
