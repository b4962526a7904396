"""Rows of a stream, for data sets that are too large to fetch and files that are too large to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from red_cli.error_codes import Code
from red_cli.errors import UserError, first_line
from red_cli.recipe.sections import Data
from red_cli.tasks.data.loading import Source, split_validation
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.tables import split_files

_BUFFER = 10_000  # rows of the shuffle buffer
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, kw_only=True)
class StreamSource(Source):
    """A stream; `train_rows` limits the rows of its training split, None takes all."""

    train_rows: int | None

    def load(self, seed: int, needed: Sequence[str]) -> dict[str, Rows]:
        return split_validation(read_stream(self.data, needed, self.train_rows, seed), self.data, seed)


def read_stream(data: Data, needed: Sequence[str], train_rows: int | None, seed: int) -> dict[str, Rows]:
    """Read the splits `needed`: the first `train_rows` training rows, shuffled by `seed`, and all rows of other splits.

    If data.validation_share draws validation rows from the training split, so many more rows are read.

    Raises:
        UserError: a split is missing, or the data cannot be read.
    """
    share = data.validation_share
    wanted = train_rows if train_rows is None or share is None else math.ceil(train_rows / (1 - share))
    names = [split for split in needed if share is None or split != "validation"]
    if share is not None and "validation" in needed and "train" not in names:
        names.append("train")
    failure: Code = "unavailable" if split_files(data) is None else "file-damaged"
    found = {}
    for split in names:
        stream, source = _open(data, split)
        selection = None
        if split == "train" and wanted is not None:
            stream = stream.shuffle(seed=seed, buffer_size=_BUFFER)
            selection = f"the first {wanted:,} of the stream, shuffled by seed {seed} among {_BUFFER:,}"
        try:
            rows = list(islice(stream, wanted if split == "train" else None))
        except Exception as error:  # whatever the reader of that format raises, row by row
            raise UserError(failure, f"{source}: {first_line(error)}") from None
        if not rows:
            raise UserError("no-rows", f"{source} has no rows")
        found[split] = Rows(pa.Table.from_pylist(rows), source, selection=selection)
    return found


def _open(data: Data, split: str) -> tuple[Any, str]:
    """The stream of a split, and its name for messages."""
    import datasets

    datasets.disable_progress_bars()
    files = split_files(data)
    if files is None:
        assert data.path is not None
        source = f"{data.path} ({data.name})" if data.name else data.path
        name = (data.splits or {}).get(split, split)  # type: ignore[call-overload]
        arguments: dict[str, Any] = {"path": data.path, "name": data.name, "revision": data.revision, "split": name}
    elif split in files:
        paths = [str(path) for path in files[split]]
        source = paths[0]
        if not Path(source).is_file():
            raise UserError("file-not-found", f"no such file: {source}")
        arguments = {"path": _BUILDERS[Path(source).suffix.lower()], "data_files": paths, "split": "train"}
    else:
        raise UserError(
            "split-not-found", f"no {split} split; available: {', '.join(files)} ({data.path or data.train})"
        )
    try:
        return datasets.load_dataset(**arguments, streaming=True), source
    except Exception as error:  # the library raises a dozen kinds; each has the reason in its first line
        raise UserError(
            "unavailable",
            f"data set {source} cannot be streamed: {first_line(error)}",
            hint="Check the name, the split and the network, or leave out data.streaming.",
        ) from None
