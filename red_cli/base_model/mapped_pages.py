"""Return the pages of mapped weight files while a base loads, so that they do not add to its peak.

A file's tensors are read through a mapping of the whole file. Once a tensor has been converted, its pages are of no
use, but the process would hold them until all of the file is loaded. The system's cache keeps them for other ranks.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from red_cli.distributed.parameter_chunks import on_loaded_parameter

_MAPS = Path("/proc/self/maps")
_WEIGHTS = ("*.safetensors", "*.bin")
_EVERY = 1 << 24  # bytes of parameters between two returns
_DONTNEED = 4  # MADV_DONTNEED of Linux


@contextmanager
def returning_pages(find_folder: Callable[[], Path | None]) -> Iterator[None]:
    """Return the mapped pages of a folder's weight files again and again while its base loads inside the block.

    The folder is looked for once the first parameter is loaded, when all files have been fetched and mapped.

    Nothing is returned once a parameter is a view of a file: its pages are the parameter. Only Linux has the means.
    """
    mapped: list[range] | None = None
    since = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal mapped, since
        if mapped is None:
            folder = find_folder()
            mapped = [] if folder is None else _mappings(folder)
        if any(parameter.data_ptr() in addresses for addresses in mapped):
            mapped = []
        since += parameter.nbytes
        if since >= _EVERY:
            if sys.platform == "linux":
                _return(mapped)
            since = 0

    with on_loaded_parameter(count):
        yield


def _mappings(folder: Path) -> list[range]:
    """The addresses at which this process maps weight files of a folder."""
    if not _MAPS.is_file():
        return []
    files = {str(file.resolve()) for pattern in _WEIGHTS for file in folder.glob(pattern)}
    found = []
    for line in _MAPS.read_text(errors="replace").splitlines():
        addresses, *_, path = line.split(maxsplit=5)
        if path in files:
            start, end = (int(address, 16) for address in addresses.split("-"))
            found.append(range(start, end))
    return found


def _return(mapped: Iterable[range]) -> None:
    """Return the pages at these addresses, and memory that was freed.

    Nothing has written to the pages, so that the next read brings them back.
    """
    system = ctypes.CDLL(None, use_errno=True)
    for addresses in mapped:
        if system.madvise(ctypes.c_void_p(addresses.start), ctypes.c_size_t(len(addresses)), _DONTNEED):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if hasattr(system, "malloc_trim"):  # of glibc, whose heap keeps what tensors left before their conversion
        system.malloc_trim(0)
