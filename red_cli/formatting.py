"""Format numbers, names and tables as plain text, alike on screen, in reports and in pictures."""

from __future__ import annotations

from collections.abc import Sequence


def two_digits(value: float | None) -> str:
    """Format `value` with two decimals; empty for None."""
    return "" if value is None else f"{value:.2f}"


def three_digits(value: float) -> str:
    """`value` with three significant digits, such as `0.0591` or `4.50e-7`; `0` for zero."""
    return f"{value:#.3g}".rstrip(".").replace("e-0", "e-").replace("e+0", "e+") if value else "0"


def plus_minus(mean: str, std: str) -> str:
    """`mean ± std`, or `mean` if `std` is empty, as for a single value."""
    return f"{mean} ± {std}" if std else mean


def short_count(count: float) -> str:
    """A count in few characters, such as `18`, `1K` or `2.5M`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def byte_size(count: int) -> str:
    """A number of bytes with its unit, up to GiB."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"


def duration(seconds: float) -> str:
    """A time in its two largest units, such as `2 h 05 min` or `3 min 20 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def shortened(text: str, most: int) -> str:
    """`text` if it has at most `most` characters, else an ellipsis and its end."""
    return text if len(text) <= most else "…" + text[1 - most :]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose first column is aligned left and the others right.

    A row with a single cell is printed as it is and does not affect the column widths.
    """
    widths = [max(map(len, column)) for column in zip(*(row for row in rows if len(row) > 1), strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=False)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip() if others else first)
    return lines
