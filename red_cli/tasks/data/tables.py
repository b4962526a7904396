"""Read rows from local files of common formats, or from a data set on the Hub."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from red_cli.errors import UserError, first_line, shown
from red_cli.recipe.sections import Data, SplitName
from red_cli.tasks.data.kept_tables import read_once
from red_cli.tasks.data.rows import Rows

# Name of a file in a data folder -> split it holds
_SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
                "dev": "validation", "test": "test"}  # fmt: skip
_SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl")
_FILE_NAME = re.compile(r"([A-Za-z_]+?)(?:-(\d+)-of-(\d+)(?:-[0-9a-f]+)?)?(\.\w+)")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_splits(data: Data, label_column: str) -> dict[str, Callable[[], Rows]]:
    """Find every split that `data` names, with a reader for each; no file is read.

    Raises:
        UserError: a file or folder is missing, or the Hub cannot be reached.
    """
    files = split_files(data)
    if files is None:
        assert data.path is not None
        return _splits_of_hub(data.path, data.name, data.revision, label_column, data.splits or {})
    return {split: partial(read_once, paths, None, partial(_read_files, paths)) for split, paths in files.items()}


def split_files(data: Data) -> dict[str, list[Path]] | None:
    """The local files of every split that `data` names; None for a data set on the Hub.

    Raises:
        UserError: a file or folder is missing.
    """
    if data.path is None:
        named = {split: getattr(data, split) for split in ("train", "validation", "test")}
        return {split: [Path(file)] for split, file in named.items() if file is not None}
    if Path(data.path).is_dir():
        return _files_of_folder(Path(data.path))
    if Path(data.path).is_file():
        return {"train": [Path(data.path)]}
    if _HUB_NAME.fullmatch(data.path) and not data.path.startswith("."):
        return None
    raise UserError("file-not-found", f"data.path: no such file or folder: {data.path}")


def _files_of_folder(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    shards: dict[str, int] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(path.name.lower())
        if match and match[4] in _SUFFIXES:
            split = _SPLIT_NAMES.get(match[1], match[1])
            if split in files and match[3] is None:
                raise UserError(
                    "split-not-found",
                    f"{folder}: two files for the {split} split: {files[split][0].name} and {path.name}",
                )
            files.setdefault(split, []).append(path)
            shards[split] = int(match[3] or 1)
    for split, paths in files.items():
        if len(paths) != shards[split]:
            raise UserError("split-not-found", f"{folder}: the {split} split has {len(paths)} of {shards[split]} files")
    if not files:
        raise UserError(
            "split-not-found",
            f"{folder} has no split files",
            hint="Expected train, validation and test with one of the endings " + " ".join(_SUFFIXES),
        )
    return files


def _read_files(paths: list[Path]) -> Rows:
    tables = [_read_file(path) for path in paths]
    names = tables[0].column_names
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError("file-damaged", f"{paths[0]} has two columns named {shown(repeated[0])}")
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(
            "file-damaged", f"{paths[0].parent}: the files of one split have different columns: {first_line(error)}"
        ) from None
    if table.num_rows == 0:
        raise UserError("no-rows", f"{paths[0]} has no rows")
    return Rows(table, str(paths[0]))


def _read_file(path: Path) -> pa.Table:
    import pyarrow.parquet

    if not path.is_file():
        raise UserError("file-not-found", f"no such file: {path}")
    if path.stat().st_size == 0:
        raise UserError("no-rows", f"{path} is empty")
    suffix = path.suffix.lower()
    hint = None
    try:
        if suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        if suffix in (".csv", ".tsv"):
            hint = "Save it as UTF-8, with the columns' names in the first line."
            return _read_csv(path, "\t" if suffix == ".tsv" else ",")
        if suffix in (".json", ".jsonl"):
            return pa.Table.from_pylist(_read_json_rows(path))
    except (pa.ArrowException, UnicodeError, ValueError, OverflowError, RecursionError, csv.Error, OSError) as error:
        raise UserError("file-damaged", f"{path} cannot be read: {first_line(error)}", hint=hint) from None
    raise UserError("unsupported-file", f"{path}: unknown file ending", hint="Known: " + " ".join(_SUFFIXES))


def _read_csv(path: Path, delimiter: str) -> pa.Table:
    """Read every column as text, unchanged: an empty field is empty text, and 01, NA or null are words."""
    import pyarrow.csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file, delimiter=delimiter), [])
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(use_threads=False),  # errors then have the number of the faulty row
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )


def _read_json_rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError("invalid-json", f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None
        numbered = list(enumerate(rows, start=1))
        unit = "element"
    else:
        numbered = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    numbered.append((number, json.loads(line)))
                except json.JSONDecodeError as error:
                    raise UserError("invalid-json", f"{path}, line {number}: not valid JSON: {error.msg}") from None
        unit = "line"
    for number, row in numbered:
        if not isinstance(row, dict):
            raise UserError(
                "invalid-json", f'{path}, {unit} {number}: expected an object such as {{"text": …, "label": …}}'
            )
    columns = dict.fromkeys(key for _, row in numbered for key in row)
    return [{key: row.get(key) for key in columns} for _, row in numbered]


def _splits_of_hub(
    path: str, name: str | None, revision: str | None, label_column: str, renamed: Mapping[SplitName, str]
) -> dict[str, Callable[[], Rows]]:
    import datasets

    datasets.disable_progress_bars()
    source = f"{path} ({name})" if name else path
    try:
        loaded = datasets.load_dataset(path, name, revision=revision)
    except Exception as error:  # the library raises a dozen kinds; each has the reason in its first line
        raise UserError(
            "unavailable",
            f"data set {source} is neither a local path nor available on the Hub: {first_line(error)}",
            hint="Check the name and the network, or name local files with data.path.",
        ) from None

    def read(split: str) -> Rows:
        feature = loaded[split].features.get(label_column)
        label_names = feature.names if isinstance(feature, datasets.ClassLabel) else None
        return Rows(loaded[split].with_format("arrow")[:], f"{source}, split {split}", label_names)

    if absent := [theirs for theirs in renamed.values() if theirs not in loaded]:
        raise UserError(
            "split-not-found",
            f"data.splits: {source} has no split {shown(absent[0])}; it has {', '.join(map(str, loaded))}",
        )
    ours = {theirs: split for split, theirs in renamed.items()}
    return {ours.get(str(split), str(split)): partial(read, split) for split in loaded}
