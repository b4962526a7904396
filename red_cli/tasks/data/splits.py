"""The splits of a task's data: where they come from, rows moved or drawn from them, and their check."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from red_cli.errors import UserError
from red_cli.recipe.sections import Data
from red_cli.tasks.data.read_splits import find_splits
from red_cli.tasks.data.rows import Rows

Readers = dict[str, Callable[[], Rows]]  # split -> function that reads it


@dataclass(frozen=True)
class Splits:
    """The splits of a task's data that were read.

    Attributes:
        rows: by the split's name.
        label_names: in the order of class ids; None if answers are numbers or texts.
    """

    rows: dict[str, Rows]
    label_names: list[str] | None = None


@dataclass(frozen=True)
class Source:
    """Where the splits of a task come from.

    Attributes:
        data: the recipe's data section; its validation_share draws validation rows from the training rows.
        find: finds every split without reading it, and returns a reader for each.
    """

    data: Data
    find: Callable[[], Readers]

    @classmethod
    def of(cls, data: Data, label_column: str) -> Source:
        """The files or the Hub data set that `data` names."""
        return cls(data, partial(find_splits, data, label_column))

    def split_names(self) -> list[str]:
        """Names of the available splits; no data is read."""
        return available_splits(self.find(), self.data)

    def load(self, seed: int, needed: Sequence[str]) -> dict[str, Rows]:
        """Read the splits `needed`, with validation rows drawn from the training rows if data.validation_share is set.

        Raises:
            UserError: a file or split is missing, unreadable or empty.
        """
        return split_validation(self.read(needed), self.data, seed)

    def read(self, needed: Sequence[str], with_train: bool = False) -> dict[str, Rows]:
        """Read the splits `needed` as stored, and the training split if validation rows are drawn from it.

        `with_train` reads the training split in any case, if it exists.

        Raises:
            UserError: a file or split is missing, unreadable or empty.
        """
        readers, share = self.find(), self.data.validation_share
        if share is not None and "validation" in readers:
            raise UserError(
                "conflicting-keys",
                "data.validation_share is set, but the data have a validation split",
                hint="Use one of them: data.validation_share=null leaves the validation split as it is.",
            )
        require_splits(readers, self.data, needed)
        wanted = {*needed, *(["train"] if with_train or (share is not None and "validation" in needed) else [])}
        return {split: read() for split, read in readers.items() if split in wanted}


def split_validation(
    splits: dict[str, Rows], data: Data, seed: int, classes: Sequence[Hashable] | None = None
) -> dict[str, Rows]:
    """Move data.validation_share of the training rows, drawn by `seed`, to the validation split.

    Both parts keep the file's order.

    Args:
        classes: (training rows,), the class of each; every class then gives the same share. None: there are none.

    Raises:
        UserError: there are too few rows.
    """
    share = data.validation_share
    if share is None or "train" not in splits:
        return splits
    rows = splits["train"]
    total = rows.table.num_rows
    order = np.random.default_rng(seed).permutation(total)
    drawn = set((order[: round(total * share)] if classes is None else _by_class(order, classes, share)).tolist())
    if not 0 < len(drawn) < total:
        raise UserError(
            "too-few-rows", f"{rows.source}: {total} rows are too few to take {share} of them for validation"
        )
    kept = [index for index in range(total) if index not in drawn]
    by = f"by seed {seed}" if classes is None else f"by class and seed {seed}"
    validation = rows.take(sorted(drawn), f"{share} of train, drawn {by}")
    return {
        **splits,
        "train": rows.take(
            kept, f"what a draw of {share}{'' if classes is None else ' by class'} by seed {seed} left of train"
        ),
        "validation": replace(validation, left_out={}),
    }


def _by_class(order: NDArray[np.int64], classes: Sequence[Hashable], share: float) -> NDArray[np.int64]:
    """The first rows in `order` of each class, `share` of them; at least one row of a class is left.

    The counts are rounded such that they add up to `share` of all rows (largest remainders).
    """
    by_class: dict[Hashable, list[int]] = {}
    for index in order.tolist():
        by_class.setdefault(classes[index], []).append(index)
    names = sorted(by_class, key=str)  # not in the order of the draw, so that equal remainders are rounded alike
    exact = np.array([len(by_class[name]) * share for name in names])
    counts = np.floor(exact).astype(int)
    missing = round(len(order) * share) - counts.sum()
    for place in np.argsort(counts - exact, kind="stable")[:missing]:
        counts[place] += 1
    parts = [by_class[name][: min(count, len(by_class[name]) - 1)] for name, count in zip(names, counts, strict=True)]
    return np.array([index for part in parts for index in part], dtype=np.int64)


def draw_rows(rows: Rows, most: int | None, seed: int) -> Rows:
    """Draw at most `most` rows of a split by `seed`, in the order of the file."""
    if most is None or rows.table.num_rows <= most:
        return rows
    chosen = np.random.default_rng(seed).permutation(rows.table.num_rows)[:most]
    return rows.take(sorted(chosen.tolist()))


def draw_by_class(
    rows: Rows, split: str, most: int | None, seed: int, classes: Sequence[Hashable] | None = None
) -> Rows:
    """Draw at most `most` of the rows of a split by `seed`, in the order of the file.

    Args:
        classes: (rows,), the class of each; every class then gives the same share. None: there are none.
    """
    total = rows.table.num_rows
    if most is None or total <= most:
        return rows
    order = np.random.default_rng(seed).permutation(total)
    drawn = order[:most] if classes is None else _by_class(order, classes, most / total)
    by = f"by seed {seed}" if classes is None else f"by class and seed {seed}"
    return rows.take(sorted(drawn.tolist()), f"{len(drawn):,} rows of {rows.selection or split}, drawn {by}")


def require_splits(found: Iterable[str], data: Data, needed: Sequence[str]) -> None:
    """Check that the splits `needed` are among those `found`, or can be drawn from them.

    Raises:
        UserError: a split is missing.
    """
    names = available_splits(found, data)
    if missing := [split for split in needed if split not in names]:
        hints = {
            "validation": "Add one, or set data.validation_share=0.1 to take a tenth of the training rows.",
            "train": "Files in a folder are named by their splits, such as train.csv. Name another file: data.train=…",
        }
        raise UserError(
            "split-not-found",
            f"no {missing[0]} split; available: {', '.join(names)} ({data.path or data.train})",
            hint=hints.get(missing[0]),
        )


def available_splits(found: Iterable[str], data: Data) -> list[str]:
    """The splits `found`, and a validation split if one is drawn from the training rows."""
    names = list(found)
    return [*names, "validation"] if data.validation_share is not None and "train" in names else names
