"""Where rows come from: local files of any common format, or a data set on the Hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from red_cli.errors import UserError
from red_cli.recipe.schema import Data

# Name of a file in a data folder -> split it holds
_SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
                "dev": "validation", "test": "test"}  # fmt: skip
_SUFFIXES = (".parquet", ".csv", ".tsv", ".json", ".jsonl")
_FILE_NAME = re.compile(r"([A-Za-z_]+?)(?:-\d+-of-\d+)?(\.\w+)")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Rows:
    """The rows of one split.

    Attributes:
        table: the columns.
        source: the file or data set, for messages.
        label_names: of a label column that is stored as class ids with names (Hub data sets).
    """

    table: pa.Table
    source: str
    label_names: list[str] | None = None

    def column(self, name: str) -> list[Any]:
        """A column's values.

        Raises:
            UserError: there is no such column (those there are, are listed).
        """
        if name not in self.table.column_names:
            raise UserError(
                f"{self.source} has no column {name!r}",
                hint=f"It has: {', '.join(self.table.column_names)}. Map names with data.columns.",
            )
        return self.table.column(name).to_pylist()

    def take(self, indices: list[int]) -> Rows:
        return Rows(self.table.take(indices), self.source, self.label_names)


def load_splits(data: Data, label_column: str) -> dict[str, Rows]:
    """Read every split that `data` names.

    Raises:
        UserError: a file is missing, unreadable or empty, or the Hub cannot be reached.
    """
    if data.path is None:
        named = {split: getattr(data, split) for split in ("train", "validation", "test")}
        files = {split: [Path(file)] for split, file in named.items() if file is not None}
    elif Path(data.path).is_dir():
        files = _files_of_folder(Path(data.path))
    elif Path(data.path).is_file():
        files = {"train": [Path(data.path)]}
    elif _HUB_NAME.fullmatch(data.path) and not data.path.startswith("."):
        return _load_from_hub(data.path, data.name, label_column)
    else:
        raise UserError(f"data.path: no such file or folder: {data.path}")
    splits = {split: _read_files(paths) for split, paths in files.items()}
    for rows in splits.values():
        if rows.table.num_rows == 0:
            raise UserError(f"{rows.source} has no rows")
    return splits


def _files_of_folder(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(path.name)
        if match and match[2] in _SUFFIXES:
            split = _SPLIT_NAMES.get(match[1], match[1])
            if split in files and "-of-" not in path.name:
                raise UserError(f"{folder}: two files for the {split} split: {files[split][0].name} and {path.name}")
            files.setdefault(split, []).append(path)
    if not files:
        raise UserError(
            f"{folder} has no split files",
            hint="Expected train, validation and test with one of the endings " + " ".join(_SUFFIXES),
        )
    return files


def _read_files(paths: list[Path]) -> Rows:
    tables = [_read_file(path) for path in paths]
    try:
        return Rows(pa.concat_tables(tables), str(paths[0]))
    except pa.ArrowInvalid as error:
        raise UserError(f"{paths[0].parent}: the files of one split have different columns: {error}") from None


def _read_file(path: Path) -> pa.Table:
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty")
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        if suffix in (".csv", ".tsv"):
            # An empty field is empty text, and the words NA, null or None are words.
            return pyarrow.csv.read_csv(
                path,
                read_options=pyarrow.csv.ReadOptions(use_threads=False),  # so that a faulty row is told by its number
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter="\t" if suffix == ".tsv" else ",", newlines_in_values=True
                ),
                convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=False),
            )
        if suffix in (".json", ".jsonl"):
            return pa.Table.from_pylist(_read_json_rows(path))
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    raise UserError(f"{path}: unknown file ending", hint="Known: " + " ".join(_SUFFIXES))


def _read_json_rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None
        numbered = list(enumerate(rows, start=1))
        unit = "element"
    else:
        numbered = []
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    numbered.append((number, json.loads(line)))
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}, line {number}: not valid JSON: {error.msg}") from None
        unit = "line"
    for number, row in numbered:
        if not isinstance(row, dict):
            raise UserError(f'{path}, {unit} {number}: expected an object such as {{"text": …, "label": …}}')
    columns = dict.fromkeys(key for _, row in numbered for key in row)
    return [{key: row.get(key) for key in columns} for _, row in numbered]


def _load_from_hub(path: str, name: str | None, label_column: str) -> dict[str, Rows]:
    import datasets

    datasets.disable_progress_bars()
    source = f"{path} ({name})" if name else path
    try:
        loaded = datasets.load_dataset(path, name)
    except Exception as error:  # the library raises a dozen kinds; each has the reason in its first line
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"data set {source} is neither a local path nor to be had from the Hub: {reason}",
            hint="Check the name and the network, or name local files with data.path.",
        ) from None
    splits = {}
    for split, dataset in loaded.items():
        feature = dataset.features.get(label_column)
        label_names = feature.names if isinstance(feature, datasets.ClassLabel) else None
        table = dataset.with_format("arrow")[:]
        splits[str(split)] = Rows(table, f"{source}, split {split}", label_names)
    return splits
