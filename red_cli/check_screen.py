"""The screen of `red check`: the plan, what the rows look like, and a row of each class, within a terminal's width."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from red_cli.errors import one_line
from red_cli.escape import terminal_line
from red_cli.plan_tables import data_rows, note_rows, schedule_rows, subject_rows

if TYPE_CHECKING:
    from red_cli.plan.data_summary import DataSummary, ShownRow
    from red_cli.plan.plan import PlanSummary

LABEL_WIDTH = 15  # columns
_MOST_CLASSES = 8
_MOST_SPANS = 6  # of a row whose answer is text
_LONGEST_NAME = 20  # columns of a class name
_LONGEST_BAR = 30
_UNEVEN = 3.0  # times the rows of the smallest class: worth a word

Line = tuple[str, bool]  # text, and whether it is shown dimmed


def check_rows(plan: PlanSummary, data: DataSummary, folder: str, width: int) -> list[tuple[str, str]]:
    """The plan and what is worth a look in the rows, as rows of label and value of at most `width` columns together."""
    base, architecture, task, *others = subject_rows(plan)
    if plan.edited_modules:
        where = f"{plan.method} on {len(plan.edited_modules)} modules, {plan.edited_pattern}"
        others = [("method", where), *(row for row in others if row[0] not in ("method", "changed"))]
    together = (base[0], f"{base[1]} ({architecture[1]})")
    subject = [together] if cell_len(together[1]) <= width - LABEL_WIDTH else [base, architecture]
    rows = [task, *subject, *others, *schedule_rows(plan), ("run folder", folder), *note_rows(plan)]
    return wrapped_rows([*rows, *data_rows(plan), *_findings(plan, data)], width)


def wrapped_rows(rows: Sequence[tuple[str, str]], width: int) -> list[tuple[str, str]]:
    """The rows of the screen of `red check`, long values on several lines; a word longer than a line is not broken."""
    room = max(width - LABEL_WIDTH, 20)
    found: list[tuple[str, str]] = []
    for label, value in rows:
        lines = textwrap.wrap(terminal_line(value), room, break_long_words=False, break_on_hyphens=False) or [""]
        labels = [label.ljust(LABEL_WIDTH - 2), *[""] * (len(lines) - 1)]
        found += zip(labels, lines, strict=True)
    return found


def _findings(plan: PlanSummary, data: DataSummary) -> list[tuple[str, str]]:
    """What the screen of `red check` says to look at: doubled and blank rows, contradictions, uneven classes."""
    found = [f"{count:,} of {split} doubled" for split, count in data.doubled.items() if count]
    found += [f"{count:,} of {split} also in train" for split, count in data.also_in_train.items() if count]
    found += [f"{data.contradictory:,} of train equal but for their labels"] if data.contradictory else []
    found += [f"{count:,} of {split} blank" for split, count in data.blank.items() if count]
    counts = [count for count in plan.classes.get("train", {}).values() if count]
    if counts and max(counts) >= _UNEVEN * min(counts):
        found.append(f"classes uneven, {max(counts) / min(counts):.3g} : 1")
    absent = [name for name, count in plan.classes.get("train", {}).items() if not count]
    found += [f"none of train is {one_line(absent[0])}"] if absent else []
    return [("look at", "; ".join(found))] if found else [("doubled", "none, and no blank row")]


def example_lines(plan: PlanSummary, data: DataSummary, width: int) -> list[Line]:
    """A row of each class with the class's count, or a row with what counts towards the loss marked."""
    if "train" in plan.classes and any(row.label is not None for row in data.rows):
        return _class_lines(plan.classes["train"], {str(row.label): row.text for row in data.rows}, width)
    if data.numbers:
        low, mean, high = data.numbers
        head = f"numbers from {low:.4g} to {high:.4g}, on average {mean:.4g}"
        return [(head, False), *((_cut(f"{row.label:>8.4g}  {_plain(row.text)}", width), False) for row in data.rows)]
    counts = [(line, False) for line in _count_lines(plan.classes.get("train", {}), width)]
    return [*counts, *(line for row in data.rows for line in _span_lines(row, width))]


def _class_lines(counts: Mapping[str, int], examples: Mapping[str, str], width: int) -> list[Line]:
    """A line for each class: name, bar, rows, and its first row; the largest classes first."""
    lines = _count_lines(counts, width)
    names = sorted(counts, key=lambda name: -counts[name])[: len(lines)]
    return [
        (_cut(f"{line}  {_plain(examples[name])}", width) if name in examples else line, False)
        for line, name in zip(lines, names, strict=True)
    ] + _rest_line(counts, width)


def _count_lines(counts: Mapping[str, int], width: int) -> list[str]:
    """Name, bar and rows of the largest classes."""
    names = sorted(counts, key=lambda name: -counts[name])[:_MOST_CLASSES]
    if not names:
        return []
    column = min(_LONGEST_NAME, max(cell_len(one_line(name)) for name in names))
    longest = min(_LONGEST_BAR, width // 6)
    digits = len(f"{counts[names[0]]:,}")
    most = max(1, counts[names[0]])
    titles = [set_cell_size(_cut(one_line(name), column), column) for name in names]
    return [
        f"{title}  {_bar(counts[name] / most, longest)}  {counts[name]:>{digits},}"
        for title, name in zip(titles, names, strict=True)
    ]


def _rest_line(counts: Mapping[str, int], width: int) -> list[Line]:
    """A line for the classes that have none of their own."""
    rest = sorted(counts, key=lambda name: -counts[name])[_MOST_CLASSES:]
    if not rest:
        return []
    least = f"the smallest {one_line(rest[-1])} with {counts[rest[-1]]:,}"
    return [(_cut(f"… {len(rest):,} more classes, {least}", width), True)]


def _bar(share: float, longest: int) -> str:
    """A bar for a share of the largest class; a class with rows has at least the thinnest one."""
    eighths = round(share * longest * 8)
    parts = " ▏▎▍▌▋▊▉"
    bar = "█" * (eighths // 8) + (parts[eighths % 8] if eighths % 8 else "")
    return f"{bar or ('▏' if share else ''):<{longest}}"


def _span_lines(row: ShownRow, width: int) -> list[Line]:
    """The screen's row whose answer is text: parts that count towards the loss have an arrow, others are dimmed."""
    lines: list[Line] = [("a row, with → before what counts towards the loss", False)]
    for counts, text in row.spans[:_MOST_SPANS]:
        parts = _folded(terminal_line(text), width - 2)
        lines += [
            (f"{'→ ' if counts and number == 0 else '  '}{part}", not counts) for number, part in enumerate(parts)
        ]
    if len(row.spans) > _MOST_SPANS:
        lines.append((f"  … {len(row.spans) - _MOST_SPANS:,} more parts", True))
    if not any(counts for counts, _ in row.spans) and row.label is not None:
        lines.append((f"→ {terminal_line(str(row.label))}", False))
    return lines


def _folded(text: str, width: int) -> list[str]:
    """A text on at most two lines: its start, and its end if there is more."""
    if cell_len(text) <= width:
        return [text]
    first = set_cell_size(text, width).rstrip()
    rest = text[len(first) :]
    return [first, rest] if cell_len(rest) <= width else [_cut(text, width), f"…{_cut(rest[::-1], width)[-2::-1]}"]


def _plain(text: str) -> str:
    """A row's text on one line."""
    return terminal_line(" ".join(text.split()))


def _cut(text: str, width: int) -> str:
    """A text of at most `width` columns; wide characters take two."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
