"""Write the exported model's shards tensor by tensor; the operating system copies unchanged tensors.

No library does this: `safetensors.save_file` needs all tensors of a file in memory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from red_cli.base_model.base_files import INDEX_FILE
from red_cli.base_model.stored_tensor import StoredTensor, StoredVector, from_float32, require_finite, to_float32
from red_cli.errors import UserError
from red_cli.export.folded_tensors import ExportedTensor, Shards
from red_cli.files import write_json

_BLOCK = 1 << 20  # bytes of a weight that are scaled at once
_LARGEST_COPY = 128 << 20  # bytes that one worker copies at once
_ALIGNMENT = 8
_CANNOT_COPY = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class _Copy:
    """A range of bytes that is copied unchanged."""

    source: Path
    start: int
    size: int
    target: int


def write_shards(shards: Shards, folder: Path, progress: Progress) -> None:
    """Write all shards and, if there are several, their index. Memory does not grow with the size of the model.

    Raises:
        UserError: a shard of the base is truncated, or a value does not fit its dtype.
    """
    total = sum(output.size for outputs in shards.values() for output in outputs)
    done = 0
    for file, outputs in shards.items():
        for size in _write_shard(folder / file, outputs):
            done += size
            progress(done, total)
    if len(shards) > 1:
        places = {output.name: file for file, outputs in shards.items() for output in outputs}
        write_json(folder / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))})


def _write_shard(path: Path, outputs: list[ExportedTensor]) -> Iterator[int]:
    """Write one file; yield the number of bytes of each finished piece."""
    placed, header = _place(outputs)
    with path.open("wb") as target:
        target.write(header)
        target.flush()
        descriptor, begins = target.fileno(), len(header)
        os.truncate(descriptor, begins + sum(output.size for output in outputs))
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            work: list[Future[int]] = [pool.submit(_copy, piece, descriptor, begins) for piece in _copies(placed)]
            work += [
                pool.submit(_write_one, output, descriptor, begins + start)
                for output, start in placed
                if output.copied is None
            ]
            for future in as_completed(work):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _place(outputs: list[ExportedTensor]) -> tuple[list[tuple[ExportedTensor, int]], bytes]:
    """(tensor, offset) in the order of their bytes, and the header that says so.

    The order is the base's, so that neighbours are copied together; wider numbers come first, so that all are aligned.
    """

    def order(output: ExportedTensor) -> tuple[int, int, str]:
        width = output.size // max(1, _count(output))
        start = output.content.start if isinstance(output.content, StoredTensor) else 1 << 62
        return -width, start, output.name

    placed, header, offset = [], {}, 0
    for output in sorted(outputs, key=order):
        placed.append((output, offset))
        end = offset + output.size
        header[output.name] = {"dtype": output.dtype, "shape": list(output.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return placed, len(text).to_bytes(8, "little") + text


def _count(output: ExportedTensor) -> int:
    """The number of values of a tensor to be written to a shard."""
    count = 1
    for extent in output.shape:
        count *= extent
    return count


def _copies(placed: list[tuple[ExportedTensor, int]]) -> Iterator[_Copy]:
    """Merge adjacent ranges, then cut them so that several workers can share them."""
    stretch: _Copy | None = None
    for output, offset in placed:
        stored = output.copied
        if stored is None:
            continue
        if stretch and (stored.file, stored.start, offset) == (
            stretch.source, stretch.start + stretch.size, stretch.target + stretch.size,
        ):  # fmt: skip
            stretch = _Copy(stretch.source, stretch.start, stretch.size + stored.size, stretch.target)
            continue
        if stretch:
            yield from _cut(stretch)
        stretch = _Copy(stored.file, stored.start, stored.size, offset)
    if stretch:
        yield from _cut(stretch)


def _cut(stretch: _Copy) -> Iterator[_Copy]:
    """Cut a range of unchanged bytes into copies that workers can share."""
    for first in range(0, stretch.size, _LARGEST_COPY):
        size = min(_LARGEST_COPY, stretch.size - first)
        yield _Copy(stretch.source, stretch.start + first, size, stretch.target + first)


def _copy(piece: _Copy, target: int, begins: int) -> int:
    """Copy one range of unchanged bytes from a base's file into a shard; return its size."""
    done = 0
    with piece.source.open("rb", buffering=0) as source:
        while done < piece.size:
            place, to, left = piece.start + done, begins + piece.target + done, piece.size - done
            count = _copy_some(source.fileno(), place, target, to, left)
            if count == 0:
                raise UserError("file-damaged", f"{piece.source} became shorter while it was read")
            done += count
    return piece.size


def _copy_some(source: int, place: int, target: int, to: int, size: int) -> int:
    """Copy up to `size` bytes, inside the kernel if the file systems support it; return how many."""
    if hasattr(os, "copy_file_range"):
        with contextlib.suppress(NotImplementedError):
            try:
                return os.copy_file_range(source, target, size, place, to)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
    block = os.pread(source, min(size, _BLOCK), place)
    return os.pwrite(target, block, to)


def _write_one(output: ExportedTensor, target: int, to: int) -> int:
    """Write a tensor whose values change; return its size in bytes."""
    if isinstance(output.content, StoredVector):
        os.pwrite(target, output.content.content, to)
        return output.size
    stored = output.content
    if stored.size == 0:
        return 0
    rows = output.shape[0] if output.shape else 1
    row_bytes = max(1, stored.size // max(1, rows))
    at_once = max(1, _BLOCK // row_bytes)
    with stored.file.open("rb", buffering=0) as source:
        for first in range(0, rows, at_once):
            count = min(at_once, rows - first)
            raw = os.pread(source.fileno(), count * row_bytes, stored.start + first * row_bytes)
            if len(raw) != count * row_bytes:
                raise UserError("file-damaged", f"{stored.file} became shorter while it was read")
            values = to_float32(raw, stored.dtype)
            if output.scale is not None:
                table = values.reshape(count, -1)
                table *= output.scale[first : first + count, None] if output.by_row else output.scale
            written = from_float32(values, output.dtype)
            require_finite(output.name, written, output.dtype)
            to += os.pwrite(target, written.data.cast("B"), to)
    return output.size
