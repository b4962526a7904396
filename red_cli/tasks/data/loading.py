"""The splits of a task: files or Hub data sets, and a validation split drawn from the training rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from red_cli.errors import UserError
from red_cli.recipe.sections import Data
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.tables import find_splits

Readers = dict[str, Callable[[], Rows]]  # split -> function that reads it


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
                hint="Use one of them.",
            )
        require_splits(readers, self.data, needed)
        wanted = {*needed, *(["train"] if with_train or (share is not None and "validation" in needed) else [])}
        return {split: read() for split, read in readers.items() if split in wanted}


def require_splits(found: Iterable[str], data: Data, needed: Sequence[str]) -> None:
    """Check that the splits `needed` are among those `found`, or can be drawn from them.

    Raises:
        UserError: a split is missing.
    """
    names = available_splits(found, data)
    if missing := [split for split in needed if split not in names]:
        hint = "Add one, or set data.validation_share=0.1 to take a tenth of the training rows."
        raise UserError(
            "split-not-found",
            f"no {missing[0]} split; available: {', '.join(names)} ({data.path or data.train})",
            hint=hint if missing[0] == "validation" else None,
        )


def available_splits(found: Iterable[str], data: Data) -> list[str]:
    """The splits `found`, and a validation split if one is drawn from the training rows."""
    names = list(found)
    return [*names, "validation"] if data.validation_share is not None and "train" in names else names


def split_validation(splits: dict[str, Rows], data: Data, seed: int) -> dict[str, Rows]:
    """Move data.validation_share of the training rows, drawn by `seed`, to the validation split.

    Both parts keep the file's order.

    Raises:
        UserError: there are too few rows.
    """
    share = data.validation_share
    if share is None or "train" not in splits:
        return splits
    rows = splits["train"]
    total = rows.table.num_rows
    size = round(total * share)
    if not 0 < size < total:
        raise UserError(
            "too-few-rows", f"{rows.source}: {total} rows are too few to take {share} of them for validation"
        )
    drawn = set(np.random.default_rng(seed).permutation(total)[:size].tolist())
    kept = [index for index in range(total) if index not in drawn]
    return {
        **splits,
        "train": rows.take(kept, f"what a draw of {share} by seed {seed} left of train"),
        "validation": rows.take(sorted(drawn), f"{share} of train, drawn by seed {seed}"),
    }


def check_truncation(data: Data, rows: Rows, cut: int, first: int, limit: int) -> None:
    """Check that no row is too long if data.too_long is "refuse".

    Args:
        cut: number of rows longer than `limit` tokens.
        first: number of the first of them, from 1.

    Raises:
        UserError: `cut` is not 0.
    """
    if cut and data.too_long == "refuse":
        raise UserError(
            "too-long",
            f"{rows.source}: {cut:,} of {rows.table.num_rows:,} rows are longer than {limit:,} tokens, the first is"
            f" row {first}",
            hint="Shorten them, raise data.max_length if the base takes more, or cut them: data.too_long=cut",
        )
