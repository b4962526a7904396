"""Turn the Arrow types of Parquet and Arrow files, and of data sets on the Hub, into those that tasks read."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute

from red_cli.tasks.data.json_columns import TEXT, doubled

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
