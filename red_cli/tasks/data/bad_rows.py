"""Rows that cannot be used: all are counted by reason, and the recipe decides whether they are refused or dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from red_cli.error_codes import Code
from red_cli.errors import UserError, shown
from red_cli.recipe.sections import BadRows, Data
from red_cli.tasks.data.arrow_columns import is_json
from red_cli.tasks.data.rows import Rows

_SHOWN_ROWS = 5


@dataclass(frozen=True)
class Fault:
    """Why a row cannot be used.

    Attributes:
        reason: the kind of fault, the same words for every row that has it: "an empty label".
        detail: what this row holds, for the first row of a reason; None if the reason says it all.
        hint: how to fix it.
        code: of the error, if all bad rows of a split have the same.
    """

    reason: str
    detail: str | None = None
    hint: str | None = None
    code: Code = "invalid-row"


def text_faults(rows: Rows, names: Sequence[str], kinds: type | tuple[type, ...] = str) -> dict[int, Fault]:
    """The bad rows of columns of texts, in which a value is null or not text: index -> fault.

    Args:
        kinds: the Python types of values that serve as text.

    Raises:
        UserError: there is no such column.
    """
    found: dict[int, Fault] = {}
    for name in names:
        if _is_all_text(rows, name):
            continue
        for index, value in enumerate(rows.column(name)):
            if value is None:
                found.setdefault(index, Fault(f"a null in column {shown(name)}", f"column {shown(name)} is null"))
            elif isinstance(value, bool) or not isinstance(value, kinds):
                detail = f"column {shown(name)} is {shown(value)}, not text"
                found.setdefault(index, Fault(f"no text in column {shown(name)}", detail))
    return found


def blank_faults(rows: Rows, names: Sequence[str]) -> dict[int, Fault]:
    """The rows in which all columns `names` are blank together: index -> fault."""
    if len(names) == 1 and _is_all_text(rows, names[0]):
        parts = (part.table.column(names[0]) for part in rows.chunks())  # a trimmed copy of the whole takes its size
        if not any(pc.any(pc.equal(pc.utf8_trim_whitespace(part), "")).as_py() for part in parts):
            return {}
    columns = [rows.column(name) for name in names]
    hint = "In a split to be completed, all completions are empty."
    fault = Fault("an empty completion", "the completion is empty", hint)
    return {
        index: fault
        for index, values in enumerate(zip(*columns, strict=True))
        if not any(str(value).strip() for value in values if value is not None)
    }


def _is_all_text(rows: Rows, name: str) -> bool:
    """Whether Arrow alone shows that a column holds a text in every row."""
    if name not in rows.table.column_names:
        return False
    column = rows.table.column(name)
    return bool(pa.types.is_large_string(column.type) and not column.null_count and not is_json(rows.table.field(name)))


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
    counts = dict(rows.left_out)
    for fault in faults.values():
        counts[fault.reason] = counts.get(fault.reason, 0) + 1
    taken = rows.take(kept, f"{rows.selection or f'all of {split}'}, but {' and '.join(_by_reason(rows, faults))}")
    return replace(taken, left_out=counts)


def _refusal(rows: Rows, faults: Mapping[int, Fault]) -> UserError:
    """The error that lists every reason with its first rows; a single bad row is described in full."""
    first = min(faults)
    fault = faults[first]
    fix = "Fix the row" if len(faults) == 1 else "Fix the rows"
    hint = f"{fault.hint or f'{fix}.'} To leave out rows that cannot be used: data.bad_rows=drop"
    codes = {each.code for each in faults.values()}
    code = fault.code if len(codes) == 1 else "invalid-row"
    if len(faults) == 1:
        return UserError(code, f"{rows.place(first)}: {fault.detail or fault.reason}", hint=hint)
    listed = "\n".join(f"  {line}" for line in _by_reason(rows, faults))
    return UserError(
        code,
        f"{rows.source}: {len(faults):,} of {rows.table.num_rows:,} rows cannot be used:\n{listed}\n"
        f"the first, {rows.place(first)}: {fault.detail or fault.reason}",
        hint=hint,
    )


def _by_reason(rows: Rows, faults: Mapping[int, Fault]) -> list[str]:
    """A line for each reason: the number of rows, the reason, and the numbers of the first rows."""
    found: dict[str, list[int]] = {}
    for index in sorted(faults):
        found.setdefault(faults[index].reason, []).append(index)
    return [f"{len(indices):,} with {reason} ({rows.first_numbers(indices)})" for reason, indices in found.items()]


def check_truncation(data: Data, rows: Rows, cut: int, first: int, limit: int) -> None:
    """Refuse bad rows: those that would be truncated, if data.too_long is "refuse".

    Args:
        cut: number of rows longer than `limit` tokens.
        first: index of the first of them.

    Raises:
        UserError: `cut` is not 0.
    """
    if cut and data.too_long == "refuse":
        raise UserError(
            "too-long",
            f"{rows.source}: {cut:,} of {rows.table.num_rows:,} rows are longer than {limit:,} tokens, the first is"
            f" row {rows.numbers([first])}",
            hint="Shorten them, raise data.max_length if the base takes more, or cut them: data.too_long=cut",
        )
