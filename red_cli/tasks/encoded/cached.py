"""Encode a split, or open what an earlier encoding of the same rows by the same settings has left in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import pyarrow as pa

from red_cli.errors import first_line
from red_cli.formatting import byte_size
from red_cli.tasks.base import Encoded, Encoder
from red_cli.tasks.data.disk_cache import SIZE_VARIABLE, SMALLEST, Damaged, DiskCache
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.encoded import arrow_file
from red_cli.tasks.encoded.fingerprint import NoFingerprint, encoder_fingerprint, fingerprint
from red_cli.tasks.text.encoder import TextEncoder


@dataclass(frozen=True)
class CacheUse:
    """What the cache did for a split.

    Attributes:
        state: "read", "written", or "unused" if it cannot be used.
        place: the folder.
        size: bytes of the file.
        problem: why it cannot be used, or what was wrong with the file that was there.
    """

    state: Literal["read", "written", "unused"]
    place: str = ""
    size: int = 0
    problem: str = ""


def encode_splits(encoder: Encoder, rows: Mapping[str, Rows]) -> tuple[dict[str, Encoded], dict[str, CacheUse]]:
    """`encoder.encode` of each split, from the cache if it is there; and what the cache did for all but small splits.

    Raises:
        UserError: as `encoder.encode`; or $RED_CACHE_GIB is not a number.
    """
    encoded, uses = dict[str, Encoded](), dict[str, CacheUse]()
    cache = _CachedEncoder(encoder)
    for split, each in rows.items():
        if each.table.nbytes < SMALLEST:
            encoded[split] = encoder.encode(each)
        else:
            encoded[split], uses[split] = cache.encode(each)
    return encoded, uses


def uses_text(uses: Mapping[str, CacheUse]) -> str:
    """What the cache did for some splits, on one line."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for split, use in uses.items():
        groups.setdefault((use.state, use.place, use.problem), []).append(split)
    lines = []
    for (state, place, problem), splits in groups.items():
        size = byte_size(sum(uses[split].size for split in splits))
        about = f"{place} ({size}){problem and f', {problem}'}"
        how = {"read": f"read from {about}", "written": f"kept in {about}", "unused": f"not kept: {problem}"}
        lines.append(f"{', '.join(splits)} {how[state]}")
    return "; ".join(lines)


class _CachedEncoder:
    """An encoder and the cache of what it encodes."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._damage = ""
        self._makers = encoder.text_makers() if isinstance(encoder, TextEncoder) else {}

    @cached_property
    def _fingerprint(self) -> str:
        return encoder_fingerprint(self._encoder)

    def encode(self, rows: Rows) -> tuple[Encoded, CacheUse]:
        """The rows from the cache, or encoded and kept there if that is possible."""
        try:
            cache = DiskCache.of_user()
            if cache.limit == 0:
                return self._encoder.encode(rows), CacheUse("unused", problem=f"{SIZE_VARIABLE} is 0")
            key = fingerprint(self._fingerprint, rows)
        except (OSError, NoFingerprint) as error:
            return self._encoder.encode(rows), CacheUse("unused", problem=_reason(error))
        return self._read(cache, key, rows) or self._write(cache, key, rows)

    def _read(self, cache: DiskCache, key: str, rows: Rows) -> tuple[Encoded, CacheUse] | None:
        """The rows in the cache, or None; a damaged file is removed."""
        try:
            stored = cache.open(key)
            if stored is None:
                return None
            encoded = arrow_file.read(stored, rows, self._makers)
        except Damaged as error:
            cache.remove(key)
            self._damage = f"a damaged file was replaced: {first_line(error)}"
            return None
        return encoded, CacheUse("read", str(cache.folder), len(stored))

    def _write(self, cache: DiskCache, key: str, rows: Rows) -> tuple[Encoded, CacheUse]:
        """Encode and write rows, unless another process does: then wait, and open what it has written."""
        encoded = None
        try:
            with cache.writing(key):
                if (found := self._read(cache, key, rows)) is not None:
                    return found
                encoded = self._encoder.encode(rows)
                size = cache.write(key, partial(arrow_file.write, encoded, rows))
        except (OSError, pa.ArrowException, arrow_file.NotStorable) as error:
            problem = _reason(error)
            return self._encoder.encode(rows) if encoded is None else encoded, CacheUse("unused", problem=problem)
        damage, encoded = self._damage, None
        pa.default_memory_pool().release_unused()  # the file takes the place of what was encoded
        opened = self._read(cache, key, rows)
        use = CacheUse("written", str(cache.folder), size, damage)
        return self._encoder.encode(rows) if opened is None else opened[0], use


def _reason(error: Exception) -> str:
    """Why the cache could not be used for a split: the system's message with the file, or the error's line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return first_line(error)
