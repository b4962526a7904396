"""The files of E2E NLG's official scripts: one prediction a line; references with blank lines between inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from red_cli.errors import UserError
from red_cli.files import write_text

_LAYOUT = (
    "One prediction a line; one reference a line, with blank lines between inputs (or one reference for each input)."
)


def read_texts(predictions: Path, references: Path) -> tuple[list[str], list[list[str]]]:
    """Read predictions, and the references of each, from two files.

    References without any blank line are one for each prediction. An empty line is an empty prediction; blank lines at
    the end are ignored if there are more lines than inputs.

    Raises:
        UserError: a file is missing, empty or not UTF-8; an input has no references; the files do not match.
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
    """Write files for `read_texts`; each text becomes one line. `references` None: no file of references."""
    write_text(predictions, "".join(f"{as_file_line(text)}\n" for text in texts))
    if references is not None:
        groups = ("".join(f"{as_file_line(text)}\n" for text in row) for row in truths)
        write_text(references, "\n".join(groups))


def as_file_line(text: str) -> str:
    """A text as one line of the files for the scripts, where a line break is taken for the start of a new text."""
    return " ".join(text.splitlines()).strip()


def _read_groups(path: Path) -> list[tuple[int, list[str]]]:
    """The number of the first line and the references of each input."""
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
    """Read a file of predictions or references as stripped lines; it must be UTF-8 and not empty."""
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
    """The place of a character that Unicode, and so the official scripts, treat as a line break, unlike editors."""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if len(parts := line.splitlines(keepends=True)) > 1:
            return f"{path}, line {number} holds U+{ord(parts[0][-1]):04X}, which counts as a line break."
    return None


def _mismatch(predictions: Path, texts: int, references: Path, groups: list[tuple[int, list[str]]]) -> str:
    """Describe how the files of predictions and references do not match, and from which line on."""
    counts = f"{predictions} and {references} do not match: {texts:,} predicted, {len(groups):,} with references"
    if texts < len(groups):
        return f"{counts}; references from line {groups[texts][0]:,} on have no prediction"
    return f"{counts}; predictions from line {len(groups) + 1:,} on have no reference"
