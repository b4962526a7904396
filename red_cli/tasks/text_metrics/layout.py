"""The files that E2E NLG's official scripts read: one prediction a line; references with blank lines between inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from red_cli.errors import UserError
from red_cli.files import write_text

_LAYOUT = (
    "One prediction a line; one reference a line, with a blank line between inputs (none: one reference for each)."
)


def read_texts(predictions: Path, references: Path) -> tuple[list[str], list[list[str]]]:
    """Predictions, and the references of each, from two files.

    References without any blank line are one for each prediction. An empty line is an empty prediction, but where there
    are more lines than inputs, blank ones at the end do not count.

    Raises:
        UserError: a file is missing, empty or not UTF-8; an input has no references; the two do not match.
    """
    texts, groups = _read_lines(predictions), _read_groups(references)
    while len(texts) > len(groups) and not texts[-1]:
        texts.pop()
    if len(texts) != len(groups):
        raise UserError(
            "rows-mismatch",
            _mismatch(predictions, len(texts), references, groups),
            hint=_hidden_break(predictions) or _LAYOUT,
        )
    return texts, [lines for _, lines in groups]


def write_texts(
    predictions: Path, references: Path | None, texts: Sequence[str], truths: Sequence[Sequence[str]]
) -> None:
    """The reverse of `read_texts`: several lines of a text become one; `references`: None to write none."""
    write_text(predictions, "".join(f"{one_line(text)}\n" for text in texts))
    if references is not None:
        groups = ("".join(f"{one_line(text)}\n" for text in row) for row in truths)
        write_text(references, "\n".join(groups))


def one_line(text: str) -> str:
    """The text as the one line that every metric takes it for: a tokenizer would take a line break for a new text."""
    return " ".join(text.splitlines()).strip()


def _read_groups(path: Path) -> list[tuple[int, list[str]]]:
    """For each input, the number of its first line, and its references."""
    lines = _read_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError("no-rows", f"{path} has no references")
    if "" not in lines:
        return [(number, [line]) for number, line in enumerate(lines, start=1)]
    groups: list[tuple[int, list[str]]] = []
    blank = True
    for number, line in enumerate(lines, start=1):
        if not line and blank:
            raise UserError(
                "invalid-row", f"{path}, line {number}: a blank line where a reference is expected", hint=_LAYOUT
            )
        if line and blank:
            groups.append((number, []))
        if line:
            groups[-1][1].append(line)
        blank = not line
    return groups


def _read_lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError("file-not-found", f"no such file: {path}") from None
    except IsADirectoryError:
        raise UserError("unsupported-file", f"{path} is a folder, not a file") from None
    if not content:
        raise UserError("no-rows", f"{path} is empty")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError("unsupported-file", f"{path}, line {line}: not UTF-8 text") from None
    return [line.strip() for line in text.splitlines()]


def _hidden_break(path: Path) -> str | None:
    """Where a sign stands that Unicode, and so the official scripts, take for a line break, and editors do not show."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if len(parts := line.splitlines(keepends=True)) > 1:
            return f"{path}, line {number} holds U+{ord(parts[0][-1]):04X}, which counts as a line break."
    return None


def _mismatch(predictions: Path, texts: int, references: Path, groups: list[tuple[int, list[str]]]) -> str:
    counts = f"{predictions} and {references} do not match: {texts:,} predicted, {len(groups):,} with references"
    if texts < len(groups):
        return f"{counts}; references from line {groups[texts][0]:,} on have no prediction"
    return f"{counts}; predictions from line {len(groups) + 1:,} on have no reference"
