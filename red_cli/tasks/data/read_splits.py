"""Read the splits of local files, or of a data set on the Hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from red_cli.errors import UserError, first_line, shown
from red_cli.recipe.sections import Data, SplitName
from red_cli.tasks.data.arrow_columns import plain
from red_cli.tasks.data.file_rows import read_file_rows
from red_cli.tasks.data.kept_tables import read_once
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.split_files import require_file, split_files


def find_splits(data: Data, label_column: str) -> dict[str, Callable[[], Rows]]:
    """Find every split that `data` names, with a function that reads it; no file is read.

    Raises:
        UserError: a file or folder is missing, or the Hub cannot be reached.
    """
    files = split_files(data)
    if files is None:
        assert data.path is not None
        return _splits_of_hub(data.path, data.name, data.revision, label_column, data.splits or {})
    return {split: partial(_read_split, data, split, paths) for split, paths in files.items()}


def _read_split(data: Data, split: str, paths: Sequence[Path]) -> Rows:
    """Read a split, whose file is looked for only now, since it may not be needed."""
    require_file(data, split)
    delimiter = data.delimiter_character
    return read_once(paths, delimiter, partial(read_file_rows, paths, delimiter))


def _splits_of_hub(
    path: str, name: str | None, revision: str | None, label_column: str, renamed: Mapping[SplitName, str]
) -> dict[str, Callable[[], Rows]]:
    """Load a data set from the Hub; return a reader of rows for each split."""
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
        return Rows(plain(loaded[split].with_format("arrow")[:]), f"{source}, split {split}", label_names)

    if absent := [theirs for theirs in renamed.values() if theirs not in loaded]:
        raise UserError(
            "split-not-found",
            f"data.splits: {source} has no split {shown(absent[0])}; it has {', '.join(map(str, loaded))}",
        )
    ours = {theirs: split for split, theirs in renamed.items()}
    return {ours.get(str(split), str(split)): partial(read, split) for split in loaded}
