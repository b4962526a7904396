"""Format numbers, names and tables as plain text, alike on screen, in reports and in pictures."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Sequence

_TIME_OF_DAY = re.compile(r"\d\d:\d\d:\d\d  ")
_MOST_NAMED = 3  # names in a list
_SLOW = 0.01  # a second; below, the time that one takes says more


def two_digits(value: float | None) -> str:
    """Format a number as plain text with two decimals; empty for None."""
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


def number_of(count: int, noun: str) -> str:
    """A count with its noun as plain text, such as `1 row` or `2,500 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def some_of(names: Sequence[str]) -> str:
    """Names as plain text: the first three, and the number of others."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


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


def speed_text(per_second: float, unit: str) -> str:
    """A speed: `1,234 rows/s`, `0.04 rows/s`, or the time of one, `2 min 05 s/row`, below 0.01 a second.

    Args:
        unit: what is counted, in the plural.
    """
    if 0 < per_second < _SLOW:
        return f"{duration(1 / per_second)}/{unit.removesuffix('s')}"
    decimals = 0 if per_second >= 10 or per_second == 0 else 1 if per_second >= 1 else 2
    return f"{per_second:,.{decimals}f} {unit}/s"


def rounded_rate(per_second: float) -> float:
    """Format a speed for a file: one decimal, or four digits if these are more."""
    return round(per_second, 1) if per_second >= 1000 else float(f"{per_second:.4g}")


def with_time_of_day(line: str) -> str:
    """Format plain text with the time of day before it."""
    return f"{time.strftime('%H:%M:%S')}  {line}"


def without_time_of_day(line: str) -> str:
    """Format plain text without the time of day before it, if it has one."""
    return _TIME_OF_DAY.sub("", line, count=1) if _TIME_OF_DAY.match(line) else line


def shortened(text: str, most: int) -> str:
    """`text` if it has at most `most` characters, else an ellipsis and its end."""
    return text if len(text) <= most else "…" + text[1 - most :]


def beginning(text: str, most: int) -> str:
    """`text` if it has at most `most` characters, else its beginning and an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


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


def wrapped(text: str, width: int, indent: int = 0) -> str:
    """Format a text as lines of at most `width` columns, broken at spaces; a longer word stays whole.

    Args:
        indent: the columns before each continued line, besides the spaces at the start of its line.
    """
    return "\n".join(part for line in text.split("\n") for part in _wrapped_line(line, width, indent))


def _wrapped_line(line: str, width: int, indent: int) -> list[str]:
    """Format plain text for a width: one line as the parts that fit into it."""
    start = " " * (indent + len(line) - len(line.lstrip(" ")))
    parts = [""]
    for word in re.findall(r" *[^ ]+", line):
        if parts[-1].strip() and _columns(parts[-1] + word) > width:
            parts.append(start + word.lstrip(" "))
        else:
            parts[-1] += word
    return parts


def _columns(text: str) -> int:
    """The columns that a text takes in a terminal, where Chinese, Japanese and Korean characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
