"""Rows of a stream, for data sets that are too large to fetch and files that are too large to read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from red_cli.errors import UserError, first_line
from red_cli.recipe.sections import Data
from red_cli.tasks.data.arrow_columns import table_of, values_of
from red_cli.tasks.data.file_rows import read_file_rows, read_parts
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.split_files import require_file, split_files
from red_cli.tasks.data.splits import Source, split_validation

_BUFFER = 10_000  # rows of the shuffle buffer
_FILE = 2**40  # distance between the first rows of two files, whose lengths are unknown


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
    files = split_files(data)
    if files is not None and (missing := [split for split in names if split not in files]):
        raise UserError(
            "split-not-found", f"no {missing[0]} split; available: {', '.join(files)} ({data.path or data.train})"
        )
    found = {}
    for split in names:
        require_file(data, split)
        most = wanted if split == "train" else None
        if files is None:
            found[split] = _rows_of_hub(data, split, most, seed)
        elif most is None:
            found[split] = read_file_rows(files[split], data.delimiter_character)
        else:
            found[split] = _rows_of_files(files[split], data.delimiter_character, most, seed)
    return found


def _rows_of_files(paths: Sequence[Path], delimiter: str | None, most: int, seed: int) -> Rows:
    """The first rows of a shuffled stream of files, with their numbers in the files."""
    import datasets

    notes = dict[str, None]()

    def rows_of(files: Sequence[int]) -> Iterator[dict[str, Any]]:
        for file in files:
            for part in read_parts(paths[file], delimiter):
                notes.update(dict.fromkeys(part.notes))
                names = part.table.column_names
                columns = [values_of(part.table.column(name), part.table.field(name)) for name in names]
                for number, values in zip(part.numbers.tolist(), zip(*columns, strict=True), strict=True):
                    yield {"place": file * _FILE + number - 1, "row": dict(zip(names, values, strict=True))}

    stream = datasets.IterableDataset.from_generator(rows_of, gen_kwargs={"files": list(range(len(paths)))})
    drawn = list(islice(stream.shuffle(seed=seed, buffer_size=_BUFFER), most))
    if not drawn:
        raise UserError("no-rows", f"{paths[0]} has no rows")
    return Rows(
        _table([each["row"] for each in drawn]),
        str(paths[0]),
        source_indices=np.array([each["place"] for each in drawn], dtype=np.int64),
        selection=_selection(most, seed),
        files=tuple((file * _FILE, str(path)) for file, path in enumerate(paths)) if len(paths) > 1 else (),
        notes=tuple(notes),
    )


def _rows_of_hub(data: Data, split: str, most: int | None, seed: int) -> Rows:
    """The first rows of a shuffled stream from the Hub, or all of them in their order."""
    import datasets

    datasets.disable_progress_bars()
    source = f"{data.path} ({data.name})" if data.name else str(data.path)
    name = (data.splits or {}).get(split, split)  # type: ignore[call-overload]
    try:
        stream: Iterable[dict[str, Any]] = datasets.load_dataset(
            path=data.path, name=data.name, revision=data.revision, split=name, streaming=True
        )
    except Exception as error:  # the library raises a dozen kinds; each has the reason in its first line
        raise UserError(
            "unavailable",
            f"data set {source} cannot be streamed: {first_line(error)}",
            hint="Check the name, the split and the network, or leave out data.streaming.",
        ) from None
    if most is not None:
        stream = stream.shuffle(seed=seed, buffer_size=_BUFFER)  # type: ignore[attr-defined]
    try:
        rows = list(islice(stream, most))
    except Exception as error:  # whatever the reader of that format raises, row by row
        raise UserError("unavailable", f"{source}: {first_line(error)}") from None
    if not rows:
        raise UserError("no-rows", f"{source} has no rows")
    return Rows(_table(rows), source, selection=None if most is None else _selection(most, seed))


def _table(rows: Sequence[dict[str, Any]]) -> Any:
    """The rows of a stream as one table, with a column for each key of any row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return table_of({name: [row.get(name) for row in rows] for name in names})


def _selection(most: int, seed: int) -> str:
    """The words for which rows of the stream were taken: how many, by which seed and buffer."""
    return f"the first {most:,} of the stream, shuffled by seed {seed} among {_BUFFER:,}"
