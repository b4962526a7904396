"""What a run was begun with: digests of its encoded rows and of its base. A resumed run must have the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from red_cli.edit.adapter_config import BaseDigest
from red_cli.tasks.base import Encoded

PARTS = {"config": "configuration", "weights": "weights", "tensors": "weights", "tokenizer": "tokenizer"}


@dataclass(frozen=True)
class SplitDigest:
    """The rows of a split as the model sees them.

    Attributes:
        rows: how many there are.
        sha256: of token ids, labels and loss masks; it covers data, tokenizer, template and truncation.
    """

    rows: int
    sha256: str


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, as every checkpoint records them; `base` is None where its files are not at hand."""

    splits: dict[str, SplitDigest]
    label_names: list[str] | None
    base: BaseDigest | None

    @classmethod
    def of(
        cls, encoded: Mapping[str, Encoded], label_names: list[str] | None, base: BaseDigest | None = None
    ) -> RunInputs:
        """The digests of the encoded splits of a run."""
        return cls({split: _digest(rows) for split, rows in encoded.items()}, label_names, base)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "base": None if self.base is None else self.base.model_dump()}


def parse_inputs(content: Any) -> RunInputs:
    """The inputs in the form of a checkpoint's state file.

    Raises:
        ValidationError: they are damaged.
    """
    return TypeAdapter(RunInputs).validate_python(content)


def changed_inputs(then: RunInputs, now: RunInputs) -> list[str]:
    """What differs, a line each; splits and a base that either lacks are not compared."""
    return [*_changed_rows(then, now), *_changed_base(then.base, now.base)]


def _changed_rows(then: RunInputs, now: RunInputs) -> list[str]:
    lines = []
    for split in sorted(then.splits.keys() & now.splits.keys()):
        before, after = then.splits[split], now.splits[split]
        if before.rows != after.rows:
            lines.append(f"{split}: {before.rows:,} rows, now {after.rows:,}")
        elif before.sha256 != after.sha256:
            lines.append(f"{split}: other rows or labels, or the tokenizer or the template writes them in another way")
    if then.label_names != now.label_names:
        lines.append(f"labels: {_names(then.label_names)}, now {_names(now.label_names)}")
    return lines


def _changed_base(then: BaseDigest | None, now: BaseDigest | None) -> list[str]:
    if then is None or now is None:
        return []
    pairs = {part: (getattr(then, part), getattr(now, part)) for part in PARTS}
    differing = [PARTS[part] for part, (old, new) in pairs.items() if None not in (old, new) and old != new]
    return [f"the base's {part} changed" for part in dict.fromkeys(differing)]


def _names(names: list[str] | None) -> str:
    return "none" if names is None else ", ".join(names)


def _digest(encoded: Encoded) -> SplitDigest:
    """The digest of every array of an encoded split, by the names of its fields."""
    digest = hashlib.sha256()
    for field in sorted(fields(encoded), key=lambda field: field.name):
        value = getattr(encoded, field.name)
        arrays = value if isinstance(value, Mapping) else {"": value}
        for name in sorted(key for key, array in arrays.items() if isinstance(array, np.ndarray)):
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{field.name} {name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes() if array.dtype.hasobject else array.data)
    return SplitDigest(len(encoded), digest.hexdigest())
