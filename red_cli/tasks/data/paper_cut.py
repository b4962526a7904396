"""The paper's division of GLUE: a selection split that chooses the best epoch, and a scored split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from red_cli.errors import UserError
from red_cli.formatting import number_of
from red_cli.tasks.data.rows import Rows

SELECTION, SCORED = "paper_validation", "paper_test"
LARGE_VALIDATION = 2000  # rows; of a larger validation set SELECTION_ROWS are for selection, of others half
SELECTION_ROWS = 1000
_FEWEST = 2  # rows of a part, since a correlation needs two


@dataclass(frozen=True)
class PaperCut:
    """How the paper's code makes splits from the rows of a GLUE task, for a family of models.

    Attributes:
        validation: the official validation split.
        from_training: the selection rows are training rows, and all of the validation split is scored.
        swapped: the permutation's first part is scored, the second is the selection split.
    """

    validation: str
    from_training: bool = False
    swapped: bool = False

    def source(self, split: str) -> str:
        """The official split that holds the rows of `split`."""
        if split == SELECTION and self.from_training:
            return "train"
        return self.validation if split in (SELECTION, SCORED) else split

    def with_parts(self, official: Sequence[str]) -> list[str]:
        """The official splits, and the parts that can be cut from them."""
        return [*official, *(part for part in (SELECTION, SCORED) if self.source(part) in official)]

    def sources(self, needed: Sequence[str], available: Sequence[str], where: str) -> list[str]:
        """The official splits that hold the rows of the splits `needed`.

        Raises:
            UserError: one of them is not in `available`.
        """
        official = list(dict.fromkeys(self.source(split) for split in needed))
        if missing := [split for split in official if split not in available]:
            hint = "eval.split=paper cuts GLUE's own splits: add it, or use eval.split=standard."
            raise UserError(
                "split-not-found",
                f"no {missing[0]} split; available: {', '.join(available)} ({where})",
                hint=hint if missing[0] in ("train", self.validation) else None,
            )
        return official

    def apply(self, official: dict[str, Rows], needed: Sequence[str], seed: int) -> dict[str, Rows]:
        """Cut the splits `needed` from the official splits that hold them.

        Every part keeps its file's order.

        Raises:
            UserError: a split is too small to cut.
        """
        cut = dict(official)
        if self.from_training:
            if "train" in official:
                cut[SELECTION], cut["train"] = self._cut(official["train"], "train", SELECTION_ROWS, seed)
            if self.validation in official:
                cut[SCORED] = replace(official[self.validation], selection=f"all of {self.validation}")
        elif self.validation in official:
            rows = official[self.validation]
            total = rows.table.num_rows
            first = SELECTION_ROWS if total > LARGE_VALIDATION else total // 2
            parts = self._cut(rows, self.validation, first, seed)
            cut[SELECTION], cut[SCORED] = reversed(parts) if self.swapped else parts
        return {split: cut[split] for split in cut if split in needed}

    def _cut(self, rows: Rows, name: str, first: int, seed: int) -> tuple[Rows, Rows]:
        total = rows.table.num_rows
        if min(first, total - first) < _FEWEST:
            what = f"take {first:,} of them for selection" if self.from_training else "cut in two"
            raise UserError(
                "too-few-rows",
                f"{rows.source}: {number_of(total, 'row')}, too few to {what}",
                hint="The paper's cut is for GLUE's own sizes; use eval.split=standard.",
            )
        order = paper_order(total, seed)
        drawn = f"numpy.random.RandomState({seed}).permutation({total})"
        return (
            rows.take(sorted(order[:first].tolist()), f"{drawn}[:{first}] of {name}"),
            rows.take(sorted(order[first:].tolist()), f"{drawn}[{first}:] of {name}"),
        )


def paper_order(rows: int, seed: int) -> NDArray[np.int64]:
    """The order in which the paper's code cuts `rows` rows, from numpy's legacy generator."""
    return np.random.RandomState(seed).permutation(rows)
