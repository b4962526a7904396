"""Rows that cannot be used: all are counted by reason, and the recipe decides whether they are refused or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from red_cli.errors import UserError
from red_cli.recipe.sections import BadRows
from red_cli.tasks.data.rows import Rows

_SHOWN_ROWS = 5


@dataclass(frozen=True)
class Fault:
    """Why a row cannot be used.

    Attributes:
        reason: the kind of fault, the same words for every row that has it: "an empty label".
        detail: what this row holds, for the first row of a reason; None if the reason says it all.
        hint: how to mend it.
    """

    reason: str
    detail: str | None = None
    hint: str | None = None


def without_bad_rows(rows: Rows, split: str, faults: Mapping[int, Fault], bad_rows: BadRows) -> Rows:
    """The rows of a split that have no fault.

    Args:
        faults: index of a row -> its fault.
        bad_rows: the recipe's data.bad_rows.

    Raises:
        UserError: there are faults and data.bad_rows is "refuse", or no row is left.
    """
    if not faults:
        return rows
    if bad_rows == "refuse":
        raise _refusal(rows, faults)
    kept = [index for index in range(rows.table.num_rows) if index not in faults]
    if not kept:
        raise UserError("no-rows", f"{rows.source}: no row is left: {'; '.join(_by_reason(rows, faults))}")
    return rows.take(kept, f"{rows.selection or f'all of {split}'}, but {' and '.join(_by_reason(rows, faults))}")


def _refusal(rows: Rows, faults: Mapping[int, Fault]) -> UserError:
    """The error that lists every reason with its first rows; a single bad row is described in full."""
    first = min(faults)
    fault = faults[first]
    hint = fault.hint or "Mend the rows, or leave them out: data.bad_rows=drop"
    if len(faults) == 1:
        return UserError(
            "invalid-row", f"{rows.source}, row {rows.number(first)}: {fault.detail or fault.reason}", hint=hint
        )
    listed = "\n".join(f"  {line}" for line in _by_reason(rows, faults))
    return UserError(
        "invalid-row",
        f"{rows.source}: {len(faults):,} of {rows.table.num_rows:,} rows cannot be used:\n{listed}\n"
        f"row {rows.number(first)}: {fault.detail or fault.reason}",
        hint=hint,
    )


def _by_reason(rows: Rows, faults: Mapping[int, Fault]) -> list[str]:
    """A line for each reason: the number of rows, the reason, and the numbers of the first rows."""
    found: dict[str, list[int]] = {}
    for index in sorted(faults):
        found.setdefault(faults[index].reason, []).append(rows.number(index))
    return [
        f"{len(numbers):,} with {reason} (row{'s' if len(numbers) > 1 else ''} "
        f"{', '.join(map(str, numbers[:_SHOWN_ROWS]))}{', …' if len(numbers) > _SHOWN_ROWS else ''})"
        for reason, numbers in found.items()
    ]
