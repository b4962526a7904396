"""Read Parquet files, and Arrow files in the file format (Feather) or the stream format (Hugging Face data sets)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from red_cli.errors import UserError, first_line
from red_cli.tasks.data.arrow_columns import plain

_BATCH = 10_000  # rows


def parquet_tables(path: Path) -> Iterator[pa.Table]:
    """The rows of a Parquet file, in parts.

    Raises:
        UserError: the file is damaged, or not a Parquet file.
    """
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                yield plain(pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def arrow_tables(path: Path) -> Iterator[pa.Table]:
    """The rows of an Arrow file, in parts.

    Raises:
        UserError: the file is damaged, or not an Arrow file.
    """
    try:
        with pa.memory_map(str(path)) as source:
            for batch in _batches(source):
                yield plain(pa.Table.from_batches([batch]))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def stored_tables(path: Path, most: int) -> Iterator[pa.Table]:
    """The tables of a Parquet or Arrow file in their own types, at most `most` rows at a time.

    Raises:
        UserError: the file is damaged.
    """
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(most):
                    yield pa.Table.from_batches([batch], file.schema_arrow)
            return
        with pa.memory_map(str(path)) as source:
            for batch in _batches(source):
                for start in range(0, batch.num_rows, most):
                    yield pa.Table.from_batches([batch.slice(start, most)])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def arrow_columns(path: Path) -> list[str]:
    """The names of a file's columns; no row is read.

    Raises:
        UserError: the file is damaged.
    """
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".parquet":
            return list(pyarrow.parquet.read_schema(path).names)
        with pa.memory_map(str(path)) as source:
            return list(_reader(source).schema.names)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _batches(source: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow file, in the file format or the stream format."""
    reader = _reader(source)
    if isinstance(reader, pa.RecordBatchFileReader):
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
    else:
        yield from reader


def _reader(source: pa.MemoryMappedFile) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    """Open an Arrow source in the file format, or in the stream format if it is not in that one."""
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)


def _unreadable(path: Path, error: Exception) -> UserError:
    """The error for a damaged Parquet or Arrow file, with the first line of the cause."""
    return UserError("file-damaged", f"{path} cannot be read: {first_line(error)}")
