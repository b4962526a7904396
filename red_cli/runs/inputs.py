"""The inputs of a run: digests of its encoded rows and of its base. A resumed run must have the same inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from red_cli.edit.recorded_base import BaseDigest
from red_cli.errors import UserError

if TYPE_CHECKING:
    from red_cli.recipe.schema import Recipe
    from red_cli.tasks.base import Encoded

_PARTS = {"config": "configuration", "weights": "weights", "tensors": "weights", "tokenizer": "tokenizer"}


@dataclass(frozen=True)
class SplitDigest:
    """The digest of a split's rows as the model sees them.

    Attributes:
        rows: the number of rows.
        sha256: the digest of token ids, labels and loss masks; it covers data, tokenizer, template and truncation.
    """

    rows: int
    sha256: str


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, recorded by every checkpoint; `base` is None if its files are not available."""

    splits: dict[str, SplitDigest]
    label_names: list[str] | None
    base: BaseDigest | None

    @classmethod
    def of(
        cls, encoded: Mapping[str, Encoded], label_names: list[str] | None, base: BaseDigest | None = None
    ) -> RunInputs:
        """The digests of the encoded splits of a run."""
        return cls({split: _input_digest(rows) for split, rows in encoded.items()}, label_names, base)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "base": None if self.base is None else self.base.model_dump()}


def parse_inputs(content: Any) -> RunInputs:
    """Parse the inputs in a checkpoint's state file or in metrics.json.

    Raises:
        ValidationError: the content is damaged.
    """
    return TypeAdapter(RunInputs).validate_python(content)


def drawn_by_seed(recipe: Recipe) -> bool:
    """Whether the seed decides the inputs of a run: which rows it trains on, or which select its best evaluation."""
    data = recipe.data
    return bool(data.max_train_rows or data.validation_share or data.streaming or recipe.eval.split == "paper")


def require_same_inputs(record: Path, then: RunInputs, now: RunInputs) -> None:
    """Check that a run resumes on the rows and the base of its `record`.

    Raises:
        UserError: a split, the label names or a part of the base differs; the message names each difference.
    """
    if changed := [*changed_rows(then, now), *changed_base(then.base, now.base)]:
        listed = "\n".join(f"  {line}" for line in changed)
        raise UserError(
            "inputs-changed",
            f"the inputs of the run changed since {record} was written:\n{listed}",
            hint="Restore them to resume, or start a new run: output.dir=…, or delete the run folder.",
        )


def changed_rows(then: RunInputs, now: RunInputs) -> list[str]:
    """The differences in rows and labels, one per line; a split that only one of them has is not compared."""
    lines = []
    for split in sorted(then.splits.keys() & now.splits.keys()):
        before, after = then.splits[split], now.splits[split]
        if before.rows != after.rows:
            lines.append(f"{split}: {before.rows:,} rows, now {after.rows:,}")
        elif before.sha256 != after.sha256:
            lines.append(f"{split}: the rows or labels changed, or their encoding by tokenizer and template")
    if then.label_names != now.label_names:
        lines.append(f"labels: {_names(then.label_names)}, now {_names(now.label_names)}")
    return lines


def changed_base(then: BaseDigest | None, now: BaseDigest | None) -> list[str]:
    """The parts of a run's recorded base that differ from the inputs now, one per line."""
    if then is None or now is None:
        return []
    pairs = {part: (getattr(then, part), getattr(now, part)) for part in _PARTS}
    differing = [_PARTS[part] for part, (old, new) in pairs.items() if None not in (old, new) and old != new]
    return [f"the base's {part} changed" for part in dict.fromkeys(differing)]


def _names(names: list[str] | None) -> str:
    """Label names as text for a message about a run's changed inputs."""
    return "none" if names is None else ", ".join(names)


def _input_digest(encoded: Encoded) -> SplitDigest:
    """The digest of a run's input: every array of an encoded split, by the names of its fields."""
    import numpy as np  # keeps commands that only read folders fast

    digest = hashlib.sha256()
    for field in sorted(fields(encoded), key=lambda field: field.name):
        value = getattr(encoded, field.name)
        arrays = value if isinstance(value, Mapping) else {"": value}
        for name in sorted(key for key, array in arrays.items() if isinstance(array, np.ndarray)):
            array = np.ascontiguousarray(arrays[name])
            digest.update(f"{field.name} {name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.tobytes() if array.dtype.hasobject else array.data)
    return SplitDigest(len(encoded), digest.hexdigest())
